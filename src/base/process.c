#include "base/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Field `wanted` of /proc/PID/stat, from 3 on: the second one is a name in brackets, which may hold anything.
 */
static unsigned long long field(long pid, int wanted) {
  char path[64], line[1024] = "";
  snprintf(path, sizeof path, "/proc/%ld/stat", pid);
  FILE *f = fopen(path, "r");
  size_t n = f ? fread(line, 1, sizeof line - 1, f) : 0;
  if (f) fclose(f);
  line[n] = '\0';
  char *at = strrchr(line, ')');
  for (int i = 2; at && i < wanted; i++) at = strchr(at + 1, ' ');
  return at ? strtoull(at, NULL, 10) : 0;
}

unsigned long long process_started(long pid) {
  return field(pid, 22);
}

double process_age(long pid) {
  double up_s = 0;
  unsigned long long ticks = process_started(pid);
  FILE *f = fopen("/proc/uptime", "r");
  if (f && fscanf(f, "%lf", &up_s) != 1) up_s = 0;
  if (f) fclose(f);
  return ticks && up_s > 0 ? up_s - (double)ticks / (double)sysconf(_SC_CLK_TCK) : -1;
}

long process_parent(long pid) {
  return (long)field(pid, 4);
}
