/* For LD_PRELOAD: the wall clock jumps by a day, to and fro, at each look at it. The clock that does not jump
 * is left alone. */
#include <dlfcn.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <time.h>

enum { DAY = 24 * 3600 };

static atomic_int looks;

static time_t jump(void) {
  return atomic_fetch_add(&looks, 1) % 2 ? DAY : -DAY;
}

time_t time(time_t *out) {
  struct timespec now;
  ((int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime"))(CLOCK_REALTIME, &now);
  now.tv_sec += jump();
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}

int clock_gettime(clockid_t clock, struct timespec *out) {
  int failed = ((int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime"))(clock, out);
  if (clock == CLOCK_REALTIME) out->tv_sec += jump();
  return failed;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
  int failed = ((int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday"))(out, zone);
  out->tv_sec += jump();
  return failed;
}
