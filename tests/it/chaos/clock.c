// Preloaded into a server, it shifts the time of day by as many microseconds as the eight bytes of
// a file say at that moment; the clock that only moves forward stays as it is.
//
// Not here: who writes the file (`chaos/clock.rs`).

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef int (*gettime_fn)(clockid_t, struct timespec *);

static const volatile int64_t *shift;

__attribute__((constructor)) static void find_shift(void) {
    const char *path = getenv("CLOCK_SHIFT");
    int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) abort();
    void *bytes = mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    if (bytes == MAP_FAILED) abort();
    shift = bytes;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static gettime_fn real;
    if (real == NULL) real = (gettime_fn)dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (result == 0 && clock == CLOCK_REALTIME && shift != NULL) {
        int64_t nanoseconds = now->tv_nsec + *shift % 1000000 * 1000;
        now->tv_sec += *shift / 1000000;
        if (nanoseconds < 0) {
            nanoseconds += 1000000000;
            now->tv_sec -= 1;
        } else if (nanoseconds >= 1000000000) {
            nanoseconds -= 1000000000;
            now->tv_sec += 1;
        }
        now->tv_nsec = nanoseconds;
    }
    return result;
}
