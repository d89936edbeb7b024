/* Makes the writes and syncs of files below FAULTS_UNDER fail as the file FAULTS_CONTROL says: "ENOSPC", "EIO" (of fsync
   only) or "EROFS". An empty or missing control file makes nothing fail. Loaded with LD_PRELOAD.

   ENOSPC leaves SQLite's -shm files alone: the first process to open one cuts it off and writes it anew, into the space
   that it has just freed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITING = 1, SYNCING = 2, OPENING = 4 };

static int failing(int what) {
  char said[16] = "";
  const char *control = getenv("FAULTS_CONTROL");
  if (!control) return 0;
  int handle = (int)syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC, 0);
  if (handle < 0) return 0;
  long got = syscall(SYS_read, handle, said, sizeof said - 1);
  syscall(SYS_close, handle);
  if (got <= 0) return 0;
  if (!strncmp(said, "ENOSPC", 6)) return what == WRITING ? ENOSPC : 0;
  if (!strncmp(said, "EIO", 3)) return what == SYNCING ? EIO : 0;
  if (!strncmp(said, "EROFS", 5)) return what != SYNCING ? EROFS : 0;
  return 0;
}

static int below(const char *path) {
  const char *under = getenv("FAULTS_UNDER");
  size_t size = under ? strlen(under) : 0;
  return size && !strncmp(path, under, size) && (!path[size] || path[size] == '/');
}

static int ours(int handle, int number) {
  char name[64], path[PATH_MAX];
  struct stat stat;
  snprintf(name, sizeof name, "/proc/self/fd/%d", handle);
  ssize_t size = readlink(name, path, sizeof path - 1);
  if (size <= 0) return 0;
  path[size] = 0;
  if (number == ENOSPC && size > 4 && !strcmp(path + size - 4, "-shm")) return 0;
  return below(path) && !fstat(handle, &stat) && (S_ISREG(stat.st_mode) || S_ISDIR(stat.st_mode));
}

static int fails(int handle, int what) {
  int saved = errno, number = failing(what);
  if (!number || !ours(handle, number)) { errno = saved; return 0; }
  errno = number;
  return 1;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int handle, const void *data, size_t size) { return fails(handle, WRITING) ? -1 : NEXT(write)(handle, data, size); }
ssize_t pwrite(int handle, const void *data, size_t size, off_t at) { return fails(handle, WRITING) ? -1 : NEXT(pwrite)(handle, data, size, at); }
ssize_t pwrite64(int handle, const void *data, size_t size, off64_t at) { return fails(handle, WRITING) ? -1 : NEXT(pwrite64)(handle, data, size, at); }
ssize_t writev(int handle, const struct iovec *parts, int count) { return fails(handle, WRITING) ? -1 : NEXT(writev)(handle, parts, count); }
int fsync(int handle) { return fails(handle, SYNCING) ? -1 : NEXT(fsync)(handle); }
int fdatasync(int handle) { return fails(handle, SYNCING) ? -1 : NEXT(fdatasync)(handle); }
int ftruncate(int handle, off_t size) { return fails(handle, OPENING) ? -1 : NEXT(ftruncate)(handle, size); }
int ftruncate64(int handle, off64_t size) { return fails(handle, OPENING) ? -1 : NEXT(ftruncate64)(handle, size); }

int mkdir(const char *path, mode_t mode) {
  int number = below(path) ? (failing(WRITING) ? failing(WRITING) : failing(OPENING)) : 0;
  if (number) { errno = number; return -1; }
  return NEXT(mkdir)(path, mode);
}
