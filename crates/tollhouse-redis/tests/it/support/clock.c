/* Shows a server another wall clock: the microseconds since 1970 in the file that CLOCK names,
   for as long as they are not zero. Preloaded by server.rs. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *clock_file;

static int64_t told(void) {
    if (!clock_file) {
        const char *path = getenv("CLOCK");
        int file = path ? open(path, O_RDONLY) : -1;
        void *at = file < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
        if (file >= 0) close(file);
        if (at == MAP_FAILED) return 0;
        clock_file = at;
    }
    return *clock_file;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int64_t micros = told();
    (void)zone;
    if (micros == 0) {
        struct timespec real;
        syscall(SYS_clock_gettime, CLOCK_REALTIME, &real);
        micros = real.tv_sec * INT64_C(1000000) + real.tv_nsec / 1000;
    }
    now->tv_sec = micros / 1000000;
    now->tv_usec = micros % 1000000;
    return 0;
}
