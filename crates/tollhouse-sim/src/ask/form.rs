//! The form of an answer: free text, JSON, or a call of a tool.

use serde_json::{Value, json};

use super::Endpoint;
use super::fields::{Fields, kind};
use super::input::length;
use crate::error::ApiError;
use crate::schema::{Flaw, check_strict};

/// The most tools in one request.
const MOST_TOOLS: usize = 128;
/// The longest schema, in bytes of JSON.
const LONGEST_SCHEMA: usize = 256 << 10;

/// What an answer has to be.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    pub(crate) format: Format,
    pub(crate) choice: Choice,
    /// The functions that may be called.
    pub(crate) tools: Vec<Named>,
}

/// What a text has to be.
#[derive(Clone, Debug)]
pub(crate) enum Format {
    Text,
    Object,
    Schema(Named),
}

/// Whether a tool is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Where it is the answerer's turn to choose.
    May,
    Must,
    /// A named one, which OpenAI's chat ends as it ends a text.
    MustThis,
    Never,
}

/// A schema with a name: of a format, or of a function's arguments.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) schema: Value,
    /// What it is, and where it stands, for errors.
    what: &'static str,
    place: String,
}

impl Named {
    pub(crate) fn flawed(&self, flaw: &Flaw) -> ApiError {
        ApiError::bad_schema(self.what, &self.name, &self.place, flaw)
    }

    fn check(&self, strict: bool) -> Result<(), ApiError> {
        match strict {
            true => check_strict(&self.schema).map_err(|flaw| self.flawed(&flaw)),
            false => Ok(()),
        }
    }
}

impl Form {
    pub(super) fn read(endpoint: Endpoint, fields: &Fields<'_>) -> Result<Self, ApiError> {
        match endpoint {
            Endpoint::Chat | Endpoint::Responses => Reader { endpoint, fields }.form(),
            Endpoint::Completions | Endpoint::Embeddings | Endpoint::Moderations => Ok(Self {
                format: Format::Text,
                choice: Choice::Never,
                tools: vec![],
            }),
        }
    }
}

struct Reader<'a, 'b> {
    endpoint: Endpoint,
    fields: &'b Fields<'a>,
}

impl<'a> Reader<'a, '_> {
    fn form(&self) -> Result<Form, ApiError> {
        let mut tools = self.tools()?;
        let choice = self.choice(&mut tools)?;
        Ok(Form {
            format: self.format()?,
            choice,
            tools,
        })
    }

    fn is_chat(&self) -> bool {
        self.endpoint == Endpoint::Chat
    }

    // ===== The format =====

    fn format(&self) -> Result<Format, ApiError> {
        let (place, format) = if self.is_chat() {
            ("response_format", self.fields.object("response_format")?)
        } else {
            ("text.format", self.fields.object("text")?.object("format")?)
        };
        match format.get("type") {
            None => Ok(Format::Text),
            Some(Value::String(kind)) => match kind.as_str() {
                "text" => Ok(Format::Text),
                "json_object" => self.object(place),
                "json_schema" => self.schema(place, format),
                other => {
                    let place = format!("{place}.type");
                    let allowed = "'json_object', 'json_schema', and 'text'";
                    Err(ApiError::bad_value(&place, other, allowed))
                }
            },
            Some(other) => {
                let place = format!("{place}.type");
                Err(ApiError::wrong_type(&place, "a string", kind(other)))
            }
        }
    }

    /// OpenAI demands the word, since models went on without end otherwise.
    fn object(&self, place: &str) -> Result<Format, ApiError> {
        let names = ["messages", "input", "instructions"];
        let mut said = names.iter().filter_map(|name| self.fields.get(name));
        if said.any(says_json) {
            return Ok(Format::Object);
        }
        let messages = if self.is_chat() { "messages" } else { "input" };
        Err(ApiError::json_not_asked(messages, place))
    }

    fn schema(&self, place: &'static str, format: Fields<'a>) -> Result<Format, ApiError> {
        let (place, format) = if self.is_chat() {
            format.required_at(place, "json_schema")?;
            ("response_format.json_schema", format.object("json_schema")?)
        } else {
            (place, format)
        };
        let of_schema = if self.is_chat() {
            "response_format"
        } else {
            "text.format.schema"
        };
        let named = Named {
            name: name(place, &format)?,
            schema: schema(of_schema, format.get("schema"), json!(true))?,
            what: "response_format",
            place: of_schema.to_owned(),
        };
        named.check(format.flag("strict")?)?;
        Ok(Format::Schema(named))
    }

    // ===== The tools =====

    /// Functions alone: what OpenAI runs itself is not simulated.
    fn tools(&self) -> Result<Vec<Named>, ApiError> {
        let Some(tools) = self.fields.get("tools") else {
            return Ok(vec![]);
        };
        let Value::Array(tools) = tools else {
            return Err(ApiError::wrong_type("tools", "an array", kind(tools)));
        };
        if tools.len() > MOST_TOOLS {
            return Err(ApiError::too_many("tools", MOST_TOOLS, tools.len()));
        }
        let read = |(index, tool)| self.tool(index, tool).transpose();
        tools.iter().enumerate().filter_map(read).collect()
    }

    fn tool(&self, index: usize, tool: &'a Value) -> Result<Option<Named>, ApiError> {
        let place = format!("tools[{index}]");
        let Value::Object(tool) = tool else {
            return Err(ApiError::wrong_type(&place, "an object", kind(tool)));
        };
        let tool = Fields(tool);
        if tool.required_at(&place, "type")? != "function" {
            return Ok(None);
        }
        let (place, function) = if self.is_chat() {
            tool.required_at(&place, "function")?;
            (format!("{place}.function"), tool.object("function")?)
        } else {
            (place, tool)
        };
        let of_schema = format!("{place}.parameters");
        let none = json!({"type": "object", "properties": {}, "additionalProperties": false});
        let mut schema = schema(&of_schema, function.get("parameters"), none)?;
        if schema == json!({}) {
            // Whatever they are, arguments are an object.
            schema = json!({"type": "object"});
        }
        let named = Named {
            name: name(&place, &function)?,
            schema,
            what: "function",
            place: of_schema,
        };
        named.check(function.flag("strict")?)?;
        Ok(Some(named))
    }

    fn choice(&self, tools: &mut Vec<Named>) -> Result<Choice, ApiError> {
        let Some(choice) = self.fields.get("tool_choice") else {
            return Ok(self.may(tools));
        };
        match choice {
            Value::String(mode) => self.mode(mode, tools),
            Value::Object(choice) => self.chosen(&Fields(choice), tools),
            other => Err(ApiError::wrong_type(
                "tool_choice",
                "one of a string or object",
                kind(other),
            )),
        }
    }

    fn mode(&self, mode: &str, tools: &[Named]) -> Result<Choice, ApiError> {
        match mode {
            "none" => Ok(Choice::Never),
            "auto" => Ok(self.may(tools)),
            "required" if tools.is_empty() => Err(ApiError::no_tools()),
            "required" => Ok(Choice::Must),
            other => {
                let allowed = "'none', 'auto', and 'required'";
                Err(ApiError::bad_value("tool_choice", other, allowed))
            }
        }
    }

    /// One function, or some that are allowed.
    fn chosen(&self, choice: &Fields<'a>, tools: &mut Vec<Named>) -> Result<Choice, ApiError> {
        if tools.is_empty() {
            return Err(ApiError::no_tools());
        }
        if choice.required_at("tool_choice", "type")? == "allowed_tools" {
            let inner = if self.is_chat() {
                choice.object("allowed_tools")?
            } else {
                *choice
            };
            let allowed = match inner.required_at("tool_choice", "tools")? {
                Value::Array(allowed) => allowed,
                other => {
                    return Err(ApiError::wrong_type(
                        "tool_choice.tools",
                        "an array",
                        kind(other),
                    ));
                }
            };
            let names: Vec<_> = allowed
                .iter()
                .filter_map(|tool| self.function_name(tool))
                .collect();
            tools.retain(|tool| names.contains(&tool.name.as_str()));
            let mode = inner.get("mode").and_then(Value::as_str);
            return self.mode(mode.unwrap_or("auto"), tools);
        }
        let whole = self.fields.get("tool_choice").unwrap_or(&Value::Null);
        let wanted = self.function_name(whole).unwrap_or_default();
        tools.retain(|tool| tool.name == wanted);
        match tools.is_empty() {
            true => Err(ApiError::unknown_tool(wanted)),
            false => Ok(Choice::MustThis),
        }
    }

    fn function_name<'t>(&self, tool: &'t Value) -> Option<&'t str> {
        let function = if self.is_chat() {
            tool.get("function")?
        } else {
            tool
        };
        function.get("name")?.as_str()
    }

    /// Whoever has a tool's result does not need another.
    fn may(&self, tools: &[Named]) -> Choice {
        let messages = self
            .fields
            .get(if self.is_chat() { "messages" } else { "input" });
        let last = messages
            .and_then(Value::as_array)
            .and_then(|all| all.last());
        let field = |name| last.and_then(|last| last.get(name)).and_then(Value::as_str);
        let is_result = matches!(field("role"), Some("tool" | "function"))
            || field("type").is_some_and(|kind| kind.ends_with("_output"));
        if tools.is_empty() || is_result {
            Choice::Never
        } else {
            Choice::May
        }
    }
}

/// A name as OpenAI allows it.
fn name(place: &str, fields: &Fields<'_>) -> Result<String, ApiError> {
    let place_of_name = format!("{place}.name");
    match fields.required_at(place, "name")? {
        Value::String(name) => {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) {
                return Err(ApiError::bad_name(&place_of_name));
            }
            Ok(name.clone())
        }
        other => Err(ApiError::wrong_type(
            &place_of_name,
            "a string",
            kind(other),
        )),
    }
}

/// A copy of a schema that is not too long.
fn schema(place: &str, given: Option<&Value>, none: Value) -> Result<Value, ApiError> {
    let Some(given) = given else {
        return Ok(none);
    };
    match length(given) as usize {
        length if length > LONGEST_SCHEMA => {
            Err(ApiError::too_long_text(place, LONGEST_SCHEMA, length))
        }
        _ => Ok(given.clone()),
    }
}

/// Whether the word occurs anywhere.
fn says_json(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            let mut words = text.as_bytes().windows(4);
            words.any(|word| word.eq_ignore_ascii_case(b"json"))
        }
        Value::Array(items) => items.iter().any(says_json),
        Value::Object(members) => members.values().any(says_json),
        _ => false,
    }
}
