#include "base/progress.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const double TERMINAL_EVERY_S = 0.2, LINE_EVERY_S = 5.0;

static bool bar_drawn; /* the terminal's last line is a bar, to be erased before anything else is said */

double clock_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static const char *time_text(double seconds, char text[32]) {
  if (seconds > 86400.0 * 999) return strcpy(text, "?");
  long s = lround(seconds);
  if (s < 3600)
    snprintf(text, 32, "%ld:%02ld", s / 60, s % 60);
  else
    snprintf(text, 32, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
  return text;
}

/* 12.3 M, 45.6 k, 789 */
static const char *count_text(double x, char text[32]) {
  static const char *const units[] = {"", " k", " M", " G", " T"};
  int unit = 0;
  while (x >= 10000.0 && unit < 4) {
    x /= 1000.0;
    unit++;
  }
  snprintf(text, 32, x >= 100.0 || (unit == 0 && x == floor(x)) ? "%.0f%s" : "%.1f%s", x, units[unit]);
  return text;
}

static void erase_bar(void) {
  if (bar_drawn) fputs("\r\033[K", stderr);
  bar_drawn = false;
}

static void show(progress *p, double now_s) {
  char rate[32], left[32], done[32], total[32], bar[21] = "";
  double spent_s = now_s - p->started_s, per_s = spent_s > 0 ? p->done / spent_s : 0;
  double share = p->total > 0 ? p->done / p->total : 0;
  if (share > 1) share = 1;
  p->shown_s = now_s;
  count_text(per_s, rate);
  time_text(per_s > 0 ? (p->total - p->done) / per_s : INFINITY, left);
  if (p->terminal) {
    int filled = (int)(share * 20);
    for (int i = 0; i < 20; i++) bar[i] = i < filled ? '=' : i == filled ? '>' : ' ';
    fprintf(stderr, "\r\033[K%s [%s] %3.0f%% %s %s/s, %s left%s%.60s", p->what, bar, share * 100, rate,
            p->unit, left, *p->note ? ", " : "", p->note);
    bar_drawn = true;
  } else {
    fprintf(stderr, "mpistill: %s %s/%s %s (%.0f %%), %s/s, %s left%s%s\n", p->what,
            count_text(p->done, done), count_text(p->total, total), p->unit, share * 100, rate, left,
            *p->note ? ", " : "", p->note);
  }
  fflush(stderr);
}

void progress_start(progress *p, const char *what, const char *unit, double total, bool active) {
  *p = (progress){.what = what, .unit = unit, .total = total, .active = active};
  p->terminal = active && isatty(2);
  p->started_s = p->shown_s = clock_seconds();
}

void progress_update(progress *p, double done) {
  p->done = done;
  if (!p->active) return;
  double now_s = clock_seconds();
  if (now_s - p->shown_s >= (p->terminal ? TERMINAL_EVERY_S : LINE_EVERY_S)) show(p, now_s);
}

void progress_note(progress *p, const char *format, ...) {
  if (!p->active) return;
  va_list args;
  va_start(args, format);
  vsnprintf(p->note, sizeof p->note, format, args);
  va_end(args);
}

void progress_end(progress *p) {
  char done[32], rate[32], spent[32];
  if (!p->active) return;
  p->active = false;
  erase_bar();
  if (p->done <= 0) return; /* all of it was there already, or failed at once: there is no rate to tell */
  double spent_s = clock_seconds() - p->started_s;
  fprintf(stderr, "mpistill: %s %s %s in %s, %s/s%s%s\n", p->what, count_text(p->done, done), p->unit,
          time_text(spent_s, spent), count_text(spent_s > 0 ? p->done / spent_s : 0, rate),
          *p->note ? ", " : "", p->note);
  fflush(stderr);
}

/* Bytes of the UTF-8 character at s that a terminal may be shown; 0: none, as of a control character. */
static int shown_bytes(const char *s) {
  const unsigned char *c = (const unsigned char *)s;
  if (*c < 0x80) return (*c >= ' ' && *c != 0x7f) || *c == '\n' || *c == '\t';
  const int n = *c >= 0xf0 && *c < 0xf5 ? 4 : *c >= 0xe0 && *c < 0xf0 ? 3 : *c >= 0xc2 && *c < 0xe0 ? 2 : 0;
  for (int i = 1; i < n; i++)
    if ((c[i] & 0xc0) != 0x80) return 0;
  return n == 2 && *c == 0xc2 && c[1] < 0xa0 ? 0 : n;
}

/* Names in messages come out of files of anybody: what would steer a terminal is a '?'. The line is written
 * at once, as ranks share their launcher's stderr and pieces of two lines would mix. */
static void say_line(const char *kind, const char *format, va_list args) {
  char text[1 << 15], line[sizeof text + 64];
  vsnprintf(text, sizeof text, format, args);
  size_t length = (size_t)snprintf(line, 64, "mpistill: %s", kind);
  for (const char *c = text; *c;) {
    const int n = shown_bytes(c);
    memcpy(line + length, n ? c : "?", n ? n : 1);
    length += n ? n : 1;
    c += n ? n : 1;
  }
  line[length++] = '\n';
  erase_bar();
  fwrite(line, 1, length, stderr);
  fflush(stderr);
}

void say(bool active, const char *format, ...) {
  if (!active) return;
  va_list args;
  va_start(args, format);
  say_line("", format, args);
  va_end(args);
}

void say_warning(bool active, const char *format, ...) {
  if (!active) return;
  va_list args;
  va_start(args, format);
  say_line("warning: ", format, args);
  va_end(args);
}
