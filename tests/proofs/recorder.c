/* Records what a process does to the files below RECORD_UNDER, in order, into the file RECORD_INTO: each write with its
   bytes, truncations, syncs, and what happens to names. Loaded with LD_PRELOAD; `disk.py` reads the record.

   What is written to the handle RECORD_MARKS is recorded as a mark, and to nowhere else. RECORD_FAIL="N E" makes the
   N-th write, truncation or sync fail with errno E, and with "N E K" the K - 1 after it too. Where E is 0 the process is
   killed there instead.

   One lock is held through each call and the entry for it, so the record has the order in which things happened.
   stdio inside libc and maps write without passing here: files that are synced, renamed or linked are recorded whole
   first. SQLite's -shm is left out: it is built anew from the -wal after a crash (https://sqlite.org/walformat.html). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct entry { uint32_t kind, path, other, unused; uint64_t inode, offset, size; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char under[PATH_MAX];
static size_t under_size;
static int into = -1, marks = -1, fail_with;
static long fail_at, fail_count, calls;

static void put(const void *data, size_t size) {
  for (const char *at = data; size;) {
    long did = syscall(SYS_write, into, at, size);
    if (did <= 0) _exit(99);
    at += did;
    size -= did;
  }
}

static void record(char kind, uint64_t inode, uint64_t offset, const char *path, const char *other, const void *data, size_t size) {
  struct entry entry = {kind, path ? strlen(path) : 0, other ? strlen(other) : 0, 0, inode, offset, size};
  put(&entry, sizeof entry);
  if (path) put(path, entry.path);
  if (other) put(other, entry.other);
  if (size) put(data, size);
}

__attribute__((constructor)) static void begin(void) {
  const char *text;
  struct stat stat;
  if (!(text = getenv("RECORD_UNDER")) || !getenv("RECORD_INTO") || !realpath(text, under)) return;
  under_size = strlen(under);
  if ((text = getenv("RECORD_MARKS"))) marks = atoi(text);
  if ((text = getenv("RECORD_FAIL"))) {
    fail_count = 1;
    sscanf(text, "%ld %d %ld", &fail_at, &fail_with, &fail_count);
  }
  into = syscall(SYS_openat, AT_FDCWD, getenv("RECORD_INTO"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  lstat(under, &stat);
  record('D', stat.st_ino, 0, "", NULL, NULL, 0);
}

static int ours(const char *path) {
  size_t size = strlen(path);
  return into >= 0 && !strncmp(path, under, under_size) && path[under_size] == '/' && !(size > 4 && !strcmp(path + size - 4, "-shm"));
}

static int of_handle(int handle, char *path, struct stat *stat) {
  char name[64];
  if (into < 0 || fstat(handle, stat) || !(S_ISREG(stat->st_mode) || S_ISDIR(stat->st_mode))) return 0;
  snprintf(name, sizeof name, "/proc/self/fd/%d", handle);
  ssize_t size = syscall(SYS_readlinkat, AT_FDCWD, name, path, PATH_MAX - 1);
  if (size <= 0) return 0;
  path[size] = 0;
  return !strcmp(path, under) || ours(path);
}

static int of_name(int folder, const char *name, char *path) {
  struct stat stat;
  if (into < 0) return 0;
  if (name[0] == '/') snprintf(path, PATH_MAX, "%s", name);
  else {
    if (folder == AT_FDCWD || !of_handle(folder, path, &stat)) return 0;
    snprintf(path + strlen(path), PATH_MAX - strlen(path), "/%s", name);
  }
  return ours(path);
}

#define BELOW(path) ((path) + under_size + 1)

static void whole(int handle, const char *path, uint64_t inode) {
  /* SQLite's own files come through here write by write. */
  size_t size = 0, room = 1 << 16;
  const char *last = strrchr(path, '/');
  if (last && strstr(last, ".db")) return;
  char name[64], *data = malloc(room);
  if (handle >= 0) snprintf(name, sizeof name, "/proc/self/fd/%d", handle);
  int reading = syscall(SYS_openat, AT_FDCWD, handle >= 0 ? name : path, O_RDONLY | O_CLOEXEC, 0);
  for (long did = 1; reading >= 0 && did > 0; size += did > 0 ? did : 0) {
    if (size == room) data = realloc(data, room *= 2);
    did = syscall(SYS_read, reading, data + size, room - size);
  }
  if (reading >= 0) {
    syscall(SYS_close, reading);
    record('N', inode, 0, BELOW(path), NULL, data, size);
  }
  free(data);
}

static int fails(void) {
  long call = ++calls;
  if (!fail_at || call < fail_at || call >= fail_at + fail_count) return 0;
  if (!fail_with) kill(getpid(), SIGKILL);
  errno = fail_with;
  return 1;
}

static ssize_t writing(int handle, const struct iovec *parts, int count, off64_t at) {
  char path[PATH_MAX];
  struct stat stat;
  ssize_t done = 0;
  if (handle == marks && into >= 0) {
    pthread_mutex_lock(&lock);
    record('M', 0, 0, NULL, NULL, parts[0].iov_base, parts[0].iov_len);
    pthread_mutex_unlock(&lock);
    return parts[0].iov_len;
  }
  int saved = errno, watched = of_handle(handle, path, &stat);
  errno = saved;
  if (watched) pthread_mutex_lock(&lock);
  if (watched && fails()) done = -1;
  else for (int part = 0; part < count; part++) {
    long did = at < 0 ? syscall(SYS_write, handle, parts[part].iov_base, parts[part].iov_len)
                      : syscall(SYS_pwrite64, handle, parts[part].iov_base, parts[part].iov_len, at + done);
    if (did < 0) { if (!done) done = -1; break; }
    if (watched && did) record('W', stat.st_ino, at < 0 ? lseek64(handle, 0, SEEK_CUR) - did : at + done, NULL, NULL, parts[part].iov_base, did);
    done += did;
    if ((size_t)did < parts[part].iov_len) break;
  }
  saved = errno;
  if (watched) pthread_mutex_unlock(&lock);
  errno = saved;
  return done;
}

#define ONE(data, size) (&(struct iovec){(void *)(data), (size)}), 1
ssize_t write(int handle, const void *data, size_t size) { return writing(handle, ONE(data, size), -1); }
ssize_t pwrite(int handle, const void *data, size_t size, off_t at) { return writing(handle, ONE(data, size), at); }
ssize_t pwrite64(int handle, const void *data, size_t size, off64_t at) { return writing(handle, ONE(data, size), at); }
ssize_t writev(int handle, const struct iovec *parts, int count) { return writing(handle, parts, count, -1); }
ssize_t pwritev(int handle, const struct iovec *parts, int count, off_t at) { return writing(handle, parts, count, at); }
ssize_t pwritev64(int handle, const struct iovec *parts, int count, off64_t at) { return writing(handle, parts, count, at); }

static int syncing(int handle, long number) {
  char path[PATH_MAX];
  struct stat stat;
  int saved = errno;
  if (!of_handle(handle, path, &stat)) { errno = saved; return syscall(number, handle); }
  pthread_mutex_lock(&lock);
  if (S_ISREG(stat.st_mode)) whole(handle, path, stat.st_ino);
  int done = fails() ? -1 : (int)syscall(number, handle);
  saved = errno;
  record(done ? 'F' : 'S', stat.st_ino, 0, NULL, NULL, NULL, 0);
  pthread_mutex_unlock(&lock);
  errno = saved;
  return done;
}

int fsync(int handle) { return syncing(handle, SYS_fsync); }
int fdatasync(int handle) { return syncing(handle, SYS_fdatasync); }

static int cutting(int handle, off64_t size) {
  char path[PATH_MAX];
  struct stat stat;
  int saved = errno;
  if (!of_handle(handle, path, &stat)) { errno = saved; return syscall(SYS_ftruncate, handle, size); }
  pthread_mutex_lock(&lock);
  int done = fails() ? -1 : (int)syscall(SYS_ftruncate, handle, size);
  saved = errno;
  if (!done) record('T', stat.st_ino, size, NULL, NULL, NULL, 0);
  pthread_mutex_unlock(&lock);
  errno = saved;
  return done;
}

int ftruncate(int handle, off_t size) { return cutting(handle, size); }
int ftruncate64(int handle, off64_t size) { return cutting(handle, size); }

static int opening(int folder, const char *name, int flags, mode_t mode) {
  char path[PATH_MAX];
  struct stat stat;
  int saved = errno, making = (flags & (O_CREAT | O_TRUNC)) && (flags & O_TMPFILE) != O_TMPFILE && of_name(folder, name, path);
  errno = saved;
  if (!making) return syscall(SYS_openat, folder, name, flags, mode);
  pthread_mutex_lock(&lock);
  int fresh = lstat(path, &stat) != 0, handle = syscall(SYS_openat, folder, name, flags, mode);
  saved = errno;
  if (handle >= 0 && !fstat(handle, &stat) && S_ISREG(stat.st_mode)) {
    if (fresh) record('C', stat.st_ino, 0, BELOW(path), NULL, NULL, 0);
    else if (flags & O_TRUNC) record('T', stat.st_ino, 0, NULL, NULL, NULL, 0);
  }
  pthread_mutex_unlock(&lock);
  errno = saved;
  return handle;
}

#define MODE(flags) mode_t mode = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }
int open(const char *name, int flags, ...) { MODE(flags) return opening(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE(flags) return opening(AT_FDCWD, name, flags | O_LARGEFILE, mode); }
int openat(int folder, const char *name, int flags, ...) { MODE(flags) return opening(folder, name, flags, mode); }
int openat64(int folder, const char *name, int flags, ...) { MODE(flags) return opening(folder, name, flags | O_LARGEFILE, mode); }

static int naming(char kind, int folder, const char *name, int other_folder, const char *other, int flags) {
  char path[PATH_MAX], other_path[PATH_MAX];
  struct stat stat;
  int saved = errno, watched = of_name(folder, name, path);
  if (other) watched = of_name(other_folder, other, other_path) || watched;
  errno = saved;
  if (watched) {
    pthread_mutex_lock(&lock);
    if (other && !lstat(path, &stat) && S_ISREG(stat.st_mode)) whole(-1, path, stat.st_ino);
  }
  int done = kind == 'R'   ? (int)syscall(SYS_renameat, folder, name, other_folder, other)
             : kind == 'L' ? (int)syscall(SYS_linkat, folder, name, other_folder, other, flags)
             : kind == 'D' ? (int)syscall(SYS_mkdirat, folder, name, flags)
                           : (int)syscall(SYS_unlinkat, folder, name, flags);
  saved = errno;
  if (watched) {
    if (!done) {
      if (kind == 'D' || kind == 'L') lstat(kind == 'D' ? path : other_path, &stat);
      record(kind, kind == 'D' || kind == 'L' ? stat.st_ino : 0, 0, BELOW(path), other ? BELOW(other_path) : NULL, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
  }
  errno = saved;
  return done;
}

int rename(const char *name, const char *other) { return naming('R', AT_FDCWD, name, AT_FDCWD, other, 0); }
int renameat(int folder, const char *name, int other_folder, const char *other) { return naming('R', folder, name, other_folder, other, 0); }
int link(const char *name, const char *other) { return naming('L', AT_FDCWD, name, AT_FDCWD, other, 0); }
int linkat(int folder, const char *name, int other_folder, const char *other, int flags) { return naming('L', folder, name, other_folder, other, flags); }
int mkdir(const char *name, mode_t mode) { return naming('D', AT_FDCWD, name, 0, NULL, mode); }
int mkdirat(int folder, const char *name, mode_t mode) { return naming('D', folder, name, 0, NULL, mode); }
int unlink(const char *name) { return naming('U', AT_FDCWD, name, 0, NULL, 0); }
int unlinkat(int folder, const char *name, int flags) { return naming('U', folder, name, 0, NULL, flags); }
int rmdir(const char *name) { return naming('U', AT_FDCWD, name, 0, NULL, AT_REMOVEDIR); }
