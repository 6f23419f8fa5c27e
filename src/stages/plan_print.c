/* A plan as lines for people, and as the one line that queues it. */
#include "stages/plan.h"

#include "base/file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static double number(const json_t *o, const char *key) {
  return json_number_value(json_object_get(o, key));
}

static const char *text(const json_t *o, const char *key) {
  const char *s = json_string_value(json_object_get(o, key));
  return s ? s : "?";
}

static const char *size_text(double bytes, char out[32]) {
  static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
  int unit = 0;
  while (bytes >= 1000 && unit < 5) {
    bytes /= 1000;
    unit++;
  }
  snprintf(out, 32, unit && bytes < 100 ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
  return out;
}

static const char *time_text(double s, char out[32]) {
  if (s < 60)
    snprintf(out, 32, "%.1f s", s);
  else
    snprintf(out, 32, "%.0f:%02.0f:%02.0f", floor(s / 3600), floor(fmod(s, 3600) / 60), floor(fmod(s, 60)));
  return out;
}

static void print_times(const json_t *p) {
  char a[32], b[32];
  size_t i;
  json_t *x;
  json_array_foreach(json_object_get(p, "stages"), i, x) printf(
      "  %-10s %10s   bound by %s\n", text(x, "stage"), time_text(number(x, "seconds"), a), text(x, "bound"));
  printf("  %-10s %10s\n", "all", time_text(number(p, "seconds"), a));
  const json_t *s = json_object_get(p, "step");
  printf("\na step of training, of %.0f: %.3f ms: compute %.3f, sums %.3f, network %.3f\n",
         number(s, "steps"), 1e3 * number(s, "seconds"), 1e3 * number(s, "compute"), 1e3 * number(s, "sums"),
         1e3 * number(s, "network"));
  if (number(p, "nodes") > 1)
    printf("  a node sends %.0f messages and %s in it%s\n", number(s, "messages"),
           size_text(number(s, "bytes"), b),
           json_is_null(json_object_get(p, "link_gbits")) ? " (give --link, and their time counts)" : "");
}

static void print_space(const json_t *p) {
  char a[32], b[32], c[32];
  size_t i;
  json_t *x;
  const json_t *m = json_object_get(p, "memory");
  printf("\nmemory\n  a rank     %10s   of its own, in %s\n  a node     %10s   in %s, %s of it shared by its "
         "ranks\n",
         size_text(number(m, "rank"), a), text(m, "rank_at"), size_text(number(m, "node"), b),
         text(m, "node_at"), size_text(number(m, "shared"), c));
  printf("  (the most at one time; what ranks share is counted once, as batch systems do)\n");
  printf("\ndisk\n");
  json_array_foreach(json_object_get(p, "files"), i, x)
      printf("  %10s   %s\n", size_text(number(x, "bytes"), a), text(x, "file"));
  printf("  %10s   all\n", size_text(number(p, "disk"), a));
}

static void print_counts(const json_t *p) {
  size_t i;
  json_t *x;
  const json_t *s = json_object_get(p, "shards");
  printf("\nshards %.0f: no waste on", number(s, "count"));
  json_array_foreach(json_object_get(s, "ranks_without_waste"), i, x)
      printf("%s %lld", i ? "," : "", (long long)json_integer_value(x));
  printf(" ranks; on %.0f they have work in %.0f %% of the time\n", number(p, "ranks"),
         100 * number(s, "efficiency"));
  printf("more than %.0f ranks: twice as many would not be a tenth faster\n", number(p, "enough_ranks"));
}

void forecast_print(const json_t *p) {
  size_t i;
  json_t *x;
  printf("%s on %.0f ranks, %.0f node%s, %.0f thread%s a rank\n\n", text(p, "recipe"), number(p, "ranks"),
         number(p, "nodes"), number(p, "nodes") > 1 ? "s" : "", number(p, "threads"),
         number(p, "threads") > 1 ? "s" : "");
  print_times(p);
  print_space(p);
  print_counts(p);
  json_array_foreach(json_object_get(p, "warnings"), i, x) printf("warning: %s\n", json_string_value(x));
}

/* In single quotes where a shell would read more than a word. */
static void print_word(const char *s) {
  static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,@%+";
  if (*s && strspn(s, plain) == strlen(s)) {
    printf(" %s", s);
    return;
  }
  printf(" '");
  for (; *s; s++)
    if (*s == '\'')
      printf("'\\''");
    else
      putchar(*s);
  putchar('\'');
}

void forecast_print_sbatch(const json_t *p, const plan_request *o) {
  const json_t *m = json_object_get(p, "memory");
  /* Half as long again, in steps of ten minutes; the script goes on in another job should that not do. */
  double minutes = ceil((1.5 * number(p, "seconds") + 300) / 600) * 10;
  double nodes = number(p, "nodes"),
         each = o->ranks_per_node ? (double)o->ranks_per_node : number(p, "ranks");
  const char *place = each == 1 ? "node" : number(p, "threads") > 1 ? "numa" : "core";
  printf("PLACE=%s sbatch --nodes=%.0f --time=%.0f:%02.0f:00 --mem=%.0fM slurm.sh", place, nodes,
         floor(minutes / 60), fmod(minutes, 60), ceil(1.2 * number(m, "node") / 1e6 / 100) * 100);
  print_word(o->recipe);
  for (size_t i = 0; i < o->set.n; i++) {
    printf(" --set");
    print_word(o->set.items[i]);
  }
  putchar('\n');
}
