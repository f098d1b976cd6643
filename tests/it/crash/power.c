// Preloaded into the server, it lets a test take back every write that no fsync has confirmed, as a
// power failure does: before a file of the database is changed, what was there is noted in an undo
// file beside it; a successful fsync empties the undo file. Killed processes leave their undo files.
//
// An entry is: offset, length of what was there, size of the file before (three 64-bit numbers),
// then what was there. Not here: undoing (`crash/power.rs`), and files other than the database and
// its log, or the log of a Redis.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef ssize_t (*write_fn)(int, const void *, size_t);
typedef ssize_t (*pwrite_fn)(int, const void *, size_t, off_t);
typedef int (*sync_fn)(int);
typedef int (*truncate_fn)(int, off_t);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

// The name of the undo file of a descriptor, if it is one of the database's files.
static int undo_name(int fd, char *name, size_t size) {
    char link[64], path[900];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    int is_log = ends_with(path, ".incr.aof");
    if (!is_log && !ends_with(path, "/quetra.db") && !ends_with(path, "/quetra.db-wal")) return 0;
    snprintf(name, size, "%s.undo", path);
    return 1;
}

static void must(int is_done) {
    if (!is_done) abort();
}

// Notes what is about to be overwritten or cut off.
static void note(int fd, off_t offset, size_t length) {
    char name[1024];
    struct stat before;
    if (!undo_name(fd, name, sizeof name)) return;
    must(fstat(fd, &before) == 0);
    if (offset >= before.st_size) length = 0;
    else if (offset + (off_t)length > before.st_size) length = before.st_size - offset;
    char *old = malloc(length + 1);
    // What is only appended to may not be readable.
    must(old != NULL && (length == 0 || pread(fd, old, length, offset) == (ssize_t)length));
    write_fn real = (write_fn)dlsym(RTLD_NEXT, "write");
    int64_t head[3] = {offset, (int64_t)length, before.st_size};
    int undo = open(name, O_WRONLY | O_CREAT | O_APPEND, 0600);
    must(undo >= 0 && real(undo, head, sizeof head) == (ssize_t)sizeof head);
    must(real(undo, old, length) == (ssize_t)length);
    close(undo);
    free(old);
}

static void confirm(int fd) {
    char name[1024];
    if (undo_name(fd, name, sizeof name)) must(truncate(name, 0) == 0 || access(name, F_OK) != 0);
}

ssize_t write(int fd, const void *data, size_t length) {
    write_fn real = (write_fn)dlsym(RTLD_NEXT, "write");
    off_t offset = lseek(fd, 0, SEEK_CUR);
    if (offset < 0) return real(fd, data, length);
    pthread_mutex_lock(&lock);
    struct stat before;
    if ((fcntl(fd, F_GETFL) & O_APPEND) && fstat(fd, &before) == 0) offset = before.st_size;
    note(fd, offset, length);
    ssize_t written = real(fd, data, length);
    pthread_mutex_unlock(&lock);
    return written;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) {
    pwrite_fn real = (pwrite_fn)dlsym(RTLD_NEXT, "pwrite64");
    pthread_mutex_lock(&lock);
    note(fd, offset, length);
    ssize_t written = real(fd, data, length, offset);
    pthread_mutex_unlock(&lock);
    return written;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    return pwrite64(fd, data, length, offset);
}

int ftruncate64(int fd, off_t size) {
    truncate_fn real = (truncate_fn)dlsym(RTLD_NEXT, "ftruncate64");
    struct stat before;
    pthread_mutex_lock(&lock);
    if (fstat(fd, &before) == 0 && before.st_size > size) note(fd, size, before.st_size - size);
    else note(fd, size, 0);
    int result = real(fd, size);
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate(int fd, off_t size) {
    return ftruncate64(fd, size);
}

static int synced(int fd, const char *name) {
    sync_fn real = (sync_fn)dlsym(RTLD_NEXT, name);
    char undo[1024];
    // Even a fast disk leaves the test a moment in which writes are not confirmed.
    if (undo_name(fd, undo, sizeof undo)) usleep(2000);
    pthread_mutex_lock(&lock);
    int result = real(fd);
    if (result == 0) confirm(fd);
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int fd) {
    return synced(fd, "fsync");
}

int fdatasync(int fd) {
    return synced(fd, "fdatasync");
}
