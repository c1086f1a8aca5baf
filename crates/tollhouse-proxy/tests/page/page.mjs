// The page in a real browser, as `.ci/page` calls it: a proxy that is open and one that wants
// a token, a simulated provider behind both, and a batch that is started here.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const { OPEN, GUARDED, TOLLHOUSE, WORK, LINES, IMAGES, REDIS, ONLY } = process.env;
const TOKEN = "t-PLANTED";
const HOSTILE = "<img src=x onerror=\"window.taken=1\">";
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const site = (base) => new URL("/tollhouse/", base).href;
const pause = (seconds) => new Promise((resume) => { setTimeout(resume, seconds * 1000); });

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ],
});

// ----- real calls, as long as this runs -----

const ask = (caller, model, tokens) => fetch(`${OPEN}/chat/completions`, {
  method: "POST",
  headers: { "content-type": "application/json", "x-tollhouse-caller": caller },
  body: JSON.stringify({ model, max_tokens: tokens, messages: [{ role: "user", content: "PLANTED" }] }),
}).then((answer) => answer.text(), () => {});

const keepAsking = (many, seconds, ...call) => {
  for (let n = 0; n < many; n += 1) {
    (async () => {
      for (;;) {
        await ask(...call);
        await pause(seconds * (0.5 + Math.random()));
      }
    })();
  }
};
// Much more than a minute has, so that some wait at all times.
keepAsking(40, 0.2, "nightly", "gpt-4o", 1500);
keepAsking(3, 4, "web", "gpt-4o", 400);
keepAsking(5, 1.5, "agent", "gpt-4o-mini", 300);
keepAsking(2, 2, HOSTILE, "gpt-4o", 200);
keepAsking(4, 6, "research", "o4-mini", 900);

// ----- what is held of every page -----

const opened = async (url, options = {}) => {
  const context = await browser.newContext({ viewport: { width: 1180, height: 940 }, ...options });
  const page = await context.newPage();
  const seen = { errors: [], outside: [], requests: 0 };
  page.on("console", (said) => { if (said.type() === "error" || said.type() === "warning") seen.errors.push(said.text()); });
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  page.on("request", (request) => {
    seen.requests += 1;
    const own = request.url().startsWith("data:") || new URL(request.url()).host === new URL(url).host;
    if (!own) seen.outside.push(request.url());
  });
  await page.goto(url);
  return { page, seen, close: () => context.close() };
};

const isClean = (seen) => {
  assert.deepEqual(seen.errors, []);
  assert.deepEqual(seen.outside, []);
};

const text = (page, selector) => page.locator(selector).innerText();
const number = async (page, name) => {
  const value = await page.locator("#sums div", { hasText: name }).locator("dd").innerText();
  return Number(value.replace(/,/g, "").split(" ")[0]);
};
const live = (page) => page.locator("#state.live").waitFor();

const fits = async (page) => {
  const wide = await page.evaluate(() => {
    const beyond = [...document.querySelectorAll("main *")].filter((it) => {
      const box = it.getBoundingClientRect();
      const unseen = it.closest(".unseen") || it.closest("svg") || box.width === 0;
      return !unseen && (box.right > innerWidth + 0.5 || box.left < -0.5);
    });
    const cut = [...document.querySelectorAll("table")].filter((it) => it.offsetWidth > it.parentElement.clientWidth);
    return {
      page: document.documentElement.scrollWidth - innerWidth,
      beyond: beyond.map((it) => it.outerHTML.slice(0, 80)),
      cut: cut.map((it) => it.id),
    };
  });
  assert.deepEqual(wide, { page: 0, beyond: [], cut: [] });
};

// Names, roles, contrast, order of headings: what a machine can tell of a page's accessibility.
const isAccessible = async (page) => {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run());
  const told = violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(" ").slice(0, 300)}`);
  assert.deepEqual(told, []);
};

const tellsNoSecret = async (page) => {
  const all = await page.evaluate(() => document.documentElement.outerHTML);
  assert.ok(!all.includes("PLANTED"), "a secret is on the page");
};

const picture = async (page, name) => {
  if (IMAGES) await page.screenshot({ path: `${IMAGES}/${name}.png` });
};

// ----- the checks -----

const checks = {
  async aTokenIsTypedOnce() {
    const { page, seen, close } = await opened(site(GUARDED));
    await page.locator("#ask").waitFor();
    assert.ok(await page.locator("#all").isHidden());
    // The keyboard is where it is needed.
    await page.keyboard.type("t-wrong");
    await page.keyboard.press("Enter");
    await page.getByText("That is no token of this proxy").waitFor();
    await isAccessible(page);
    await page.keyboard.type(TOKEN);
    await page.keyboard.press("Enter");
    await live(page);
    assert.equal(page.url(), site(GUARDED), "it is not in the address");
    await page.getByText("No call has come yet").waitFor();
    await tellsNoSecret(page);
    await page.reload();
    await live(page);
    // The browser tells of two answers of 401, for none and for a wrong one.
    const told = seen.errors.filter((error) => !error.includes("401"));
    assert.deepEqual([told, seen.errors.length], [[], 2]);
    assert.deepEqual(seen.outside, []);
    await close();
  },

  async numbersMoveAndWhoWaitsIsTold() {
    const { page, seen, close } = await opened(site(OPEN), { colorScheme: "light" });
    await live(page);
    await page.locator("#waits tbody tr").nth(1).waitFor();
    const before = await number(page, "calls over");
    const line = await page.locator(".pool path.top").first().getAttribute("d");
    assert.ok(line.length > 20, line);
    await page.waitForFunction((was) => {
      const sums = [...document.querySelectorAll("#sums div")];
      const over = sums.find((one) => one.textContent.includes("calls over"));
      return Number(over.querySelector("dd").textContent.replace(/,/g, "")) > was;
    }, before);
    await page.waitForFunction((was) => document.querySelector(".pool path.top").getAttribute("d") !== was, line);
    assert.ok((await number(page, "waiting")) > 10);

    const heads = await page.locator("#pools h3").allInnerTexts();
    assert.deepEqual(heads, ["gpt-4o", "gpt-4o-mini", "o4-mini"]);
    const first = page.locator(".pool").first();
    await first.locator(".said", { hasText: /\d+ wait for (tokens to come back|a slot)/ }).waitFor();
    assert.match(await first.locator(".used").innerText(), /^\d+ %\s+[\d,]+ of 60,000 tokens\/min reserved/);

    const nightly = page.locator("#waits tr", { has: page.getByRole("rowheader", { name: "nightly", exact: true }) });
    const cells = await nightly.locator("td").allInnerTexts();
    assert.equal(cells[0], "gpt-4o");
    assert.ok(Number(cells[1]) > 1 && Number(cells[2]) >= 1, cells.join());
    assert.match(cells[3], /^(about .+ s|about .+ min.*|under 1 s)$/);

    const calls = await page.locator("#recent tbody tr").count();
    assert.ok(calls > 3 && calls <= 24, `${calls} calls`);
    const status = await page.locator("#recent tbody tr td:nth-child(4)").allInnerTexts();
    assert.ok(status.includes("200"), status.join());
    await tellsNoSecret(page);
    await isAccessible(page);
    isClean(seen);
    await close();
  },

  async holdsAreTold() {
    const { page, seen, close } = await opened(site(OPEN));
    await live(page);
    const news = page.locator("#happened li");
    await news.filter({ hasText: /the provider closed it for [\d.]+ (ms|s)/ }).first().waitFor();
    await news.filter({ hasText: /open again/ }).first().waitFor();
    assert.ok((await page.locator(".holds rect").count()) > 0);
    isClean(seen);
    await close();
  },

  async aCallersNameIsText() {
    const { page, seen, close } = await opened(site(OPEN));
    await live(page);
    await page.locator("#recent td.call", { hasText: HOSTILE }).first().waitFor();
    assert.equal(await page.locator("main img").count(), 0);
    assert.equal(await page.evaluate(() => window.taken), undefined);
    isClean(seen);
    await close();
  },

  async aKeyboardIsEnough() {
    const { page, seen, close } = await opened(site(OPEN));
    await live(page);
    await page.locator(".pool").first().waitFor();
    const focused = () => page.evaluate(() => {
      const it = document.activeElement;
      const { outlineStyle, outlineWidth } = getComputedStyle(it);
      return { is: it.id || it.className, ring: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 };
    });
    const tab = async (is) => {
      await page.keyboard.press("Tab");
      assert.deepEqual(await focused(), { is, ring: true });
    };
    await tab("skip");
    await page.keyboard.press("Enter");
    assert.equal((await focused()).is, "main");
    await tab("graph");
    for (let n = 0; n < 3; n += 1) await page.keyboard.press("ArrowLeft");
    const slider = page.locator(".graph").first();
    assert.match(await slider.getAttribute("aria-valuetext"), /^3\.0 s ago: [\d,]+ tokens in a minute, [\d,-]+ left, \d+ waiting/);
    assert.equal(await slider.getAttribute("aria-valuenow"), "-3");
    await page.keyboard.press("Escape");
    assert.match(await slider.getAttribute("aria-valuetext"), /^Now/);
    await page.keyboard.press("Shift+Tab");
    assert.deepEqual(await focused(), { is: "pause", ring: true });
    await page.keyboard.press("Space");
    assert.equal(await page.locator("#pause").getAttribute("aria-pressed"), "true");
    const stood = await text(page, "#foot");
    await pause(2.2);
    assert.equal(await text(page, "#foot"), stood);
    await page.keyboard.press("Enter");
    await page.waitForFunction((was) => document.getElementById("foot").textContent !== was, stood);
    isClean(seen);
    await close();
  },

  async itFitsAPhoneAndTheDark() {
    const grounds = [];
    for (const colorScheme of ["light", "dark"]) {
      const phone = { viewport: { width: 390, height: 844 }, colorScheme };
      const { page, seen, close } = await opened(site(OPEN), phone);
      await live(page);
      await page.locator("#recent tbody tr").first().waitFor();
      await fits(page);
      // With the longest words that may stand there, whatever was waited for until now.
      await page.locator("#pause").click();
      await page.evaluate(() => {
        for (const cell of document.querySelectorAll("td.number")) cell.textContent = "about 59 min 59 s";
        for (const cell of document.querySelectorAll("td:nth-child(4)")) cell.textContent = "no answer";
        for (const cell of document.querySelectorAll("tbody th, td.call > *")) cell.textContent = "W".repeat(80);
      });
      await fits(page);
      await page.locator("#pause").click();
      await isAccessible(page);
      grounds.push(await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor));
      if (colorScheme === "dark") await picture(page, "page-phone");
      isClean(seen);
      await close();
    }
    const light = (ground) => ground.match(/\d+/g).reduce((sum, part) => sum + Number(part), 0);
    assert.ok(light(grounds[0]) > 600 && light(grounds[1]) < 150, grounds.join());
  },

  async whoWantsNoMotionGetsNone() {
    for (const [reducedMotion, moves] of [["reduce", false], ["no-preference", true]]) {
      const { page, close } = await opened(site(OPEN), { reducedMotion });
      const time = await page.evaluate(() => getComputedStyle(document.getElementById("pause")).transitionDuration);
      assert.equal(parseFloat(time) > 0, moves, `${reducedMotion}: ${time}`);
      await close();
    }
  },

  async whatItsPartsAre() {
    const { page, close } = await opened(site(OPEN));
    await live(page);
    await page.locator("#recent tbody tr").first().waitFor();
    for (const name of ["Pools", "Who waits", "Holds and other news", "Recent calls"]) {
      await page.getByRole("region", { name }).waitFor();
    }
    assert.equal(await page.locator("h1").count(), 1);
    for (const name of ["Callers whose calls wait, the next to go first", "Calls that are over, the latest first"]) {
      const table = page.getByRole("table", { name });
      assert.ok((await table.getByRole("columnheader").count()) > 4, name);
    }
    assert.equal(await page.getByRole("status").count(), 1);
    assert.ok((await page.getByRole("slider").count()) >= 3);
    await close();
  },

  async allProcessesOfASharedAccountAreTold() {
    const redis = spawn("redis-server", ["--port", REDIS, "--bind", "127.0.0.1", "--save", "", "--dir", WORK], { stdio: "ignore" });
    const proxy = async () => {
      const child = spawn(TOLLHOUSE, [
        "proxy", "--listen", "127.0.0.1:0", "--config", `${WORK}/tollhouse.toml`, "--redis", `redis://127.0.0.1:${REDIS}`,
      ], { stdio: ["ignore", "ignore", "pipe"] });
      const lines = createInterface({ input: child.stderr });
      const url = await new Promise((resume, fail) => {
        lines.on("line", (line) => { if (line.startsWith("Page at ")) resume(line.slice(8).trim()); });
        lines.on("close", () => fail(new Error("the proxy tells no page")));
      });
      return { child, url };
    };
    const [one, other] = [await proxy(), await proxy()];
    const rows = (page) => page.locator("#processes tbody tr");
    for (const colorScheme of ["light", "dark"]) {
      for (const viewport of [{ width: 1180, height: 940 }, { width: 390, height: 844 }]) {
        const { page, seen, close } = await opened(one.url, { viewport, colorScheme });
        await live(page);
        await rows(page).nth(1).waitFor();
        await page.getByRole("region", { name: "Processes of the account" }).waitFor();
        assert.match(await rows(page).nth(0).getByRole("rowheader").innerText(), /^[0-9a-f]{8} \(this one\)$/);
        assert.match(await rows(page).nth(1).getByRole("rowheader").innerText(), /^[0-9a-f]{8}$/);
        assert.match(await rows(page).nth(1).locator("td:nth-child(3)").innerText(), /^(\d+ ms|[\d.]+ s|0 s) ago$/);
        await fits(page);
        // With the longest that may stand there.
        await page.locator("#pause").click();
        await page.evaluate(() => {
          for (const cell of document.querySelectorAll("#processes td:nth-child(3)")) cell.textContent = "silent for 59 min 59 s";
          for (const cell of document.querySelectorAll("#processes td:nth-child(n+4)")) cell.textContent = "999,999,999";
        });
        await fits(page);
        await page.locator("#pause").click();
        await isAccessible(page);
        isClean(seen);
        await close();
      }
    }
    const { page, seen, close } = await opened(one.url);
    await live(page);
    await page.locator("#processes td", { hasText: /ago$/ }).nth(1).waitFor();
    other.child.kill("SIGTERM");
    await rows(page).locator("td", { hasText: "has left" }).waitFor();
    redis.kill("SIGKILL");
    await page.locator("#alert", { hasText: "Not shared with other processes" }).waitFor();
    await page.getByText("Redis does not tell who is there.").waitFor();
    assert.match(await text(page, "#sums"), /processes\s+alone/);
    isClean(seen);
    await close();
    one.child.kill("SIGKILL");
  },

  async aLostConnectionIsToldAndFoundAgain() {
    const { page, close } = await opened(site(OPEN));
    await live(page);
    await page.context().setOffline(true);
    await page.evaluate(() => {
      Object.defineProperty(document, "hidden", { value: true, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
      Object.defineProperty(document, "hidden", { value: false, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    });
    await page.getByText("The connection is lost; trying again").waitFor();
    await page.context().setOffline(false);
    await live(page);
    await close();
  },

  async aBatchShowsItselfAndLeavesAReport() {
    const report = `${WORK}/report.html`;
    const batch = spawn(TOLLHOUSE, [
      "batch", `${WORK}/in.jsonl`, "--output", `${WORK}/out.jsonl`, "--page", "--report", report,
      "--max-concurrency", "4", "--stagger-seconds", "0", "--tpm-limit", "30000",
    ], { stdio: ["ignore", "ignore", "pipe"] });
    const ended = new Promise((resume) => { batch.on("exit", resume); });
    const lines = createInterface({ input: batch.stderr });
    const url = await new Promise((resume, fail) => {
      lines.on("line", (line) => { if (line.startsWith("Page at ")) resume(line.slice(8).trim()); });
      lines.on("close", () => fail(new Error("the batch tells no page")));
    });
    const { page, seen, close } = await opened(url, { viewport: { width: 1180, height: 820 } });
    await live(page);
    assert.match(await text(page, "#progress-text"), new RegExp(`^\\d+ of ${LINES} lines done`));
    await page.waitForFunction(() => document.getElementById("bar").value > 2);
    await isAccessible(page);
    assert.equal(await ended, 0);
    await page.getByText("Over: these are its last numbers").waitFor();
    assert.equal(await text(page, "#progress-text"), `${LINES} of ${LINES} lines done`);
    isClean(seen);
    await close();

    const left = await opened(pathToFileURL(report).href, { viewport: { width: 1180, height: 820 }, offline: true });
    assert.match(await text(left.page, "#state"), /^Report, written \d+ \w+ 20\d\d/);
    assert.equal(await text(left.page, "#progress-text"), `${LINES} of ${LINES} lines done`);
    assert.equal(await left.page.locator(".pool").count(), 1);
    assert.ok((await text(left.page, "#recent")).includes(`line-${LINES}`));
    await isAccessible(left.page);
    await tellsNoSecret(left.page);
    await picture(left.page, "page-report");
    isClean(left.seen);
    await left.close();
  },
};

try {
  // Before anything is looked at, something is to be seen; pictures want more of it.
  await pause(IMAGES ? 290 : 8);
  if (IMAGES) {
    for (const colorScheme of ["light", "dark"]) {
      const { page, close } = await opened(site(OPEN), { colorScheme, viewport: { width: 1180, height: 1120 } });
      await live(page);
      await pause(1.5);
      await picture(page, `page-${colorScheme}`);
      await close();
    }
  }
  for (const [name, check] of Object.entries(checks)) {
    if (ONLY && name !== ONLY) continue;
    await check();
    console.log(`page: ${name}`);
  }
} finally {
  await browser.close();
}
process.exit(0);
