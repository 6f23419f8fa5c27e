#include "stages/sources.h"

#include "stages/live.h"

#include "base/mem.h"
#include "base/options.h"

#include <math.h>
#include <string.h>

static status set_weights(sources *s, const mpistill_reals *weights) {
  double sum = 0;
  if (weights->n && weights->n != (size_t)s->n)
    return status_set(STATUS_BAD_INPUT, "weights: %zu given for %d soft-label files; give one each",
                      weights->n, s->n);
  status st = mem_new(&s->weights, (size_t)s->n, sizeof *s->weights);
  if (st) return st;
  for (int i = 0; i < s->n; i++) {
    s->weights[i] = weights->n ? weights->items[i] : 1.0;
    if (s->weights[i] < 0) return status_set(STATUS_BAD_INPUT, "weights: %g is negative", s->weights[i]);
    sum += s->weights[i];
  }
  if (!(sum > 0)) return status_set(STATUS_BAD_INPUT, "weights: all are zero");
  for (int i = 0; i < s->n; i++) s->weights[i] /= sum;
  return STATUS_OK;
}

static bool is_dense(const sources *s) {
  return s->f.positions > 1;
}

/* Rules beside the means are about classes, of rows or of each position. */
static status check_rule(const sources *s, const char *path) {
  const combine_kind *k = s->rule;
  if (s->f.values && strcmp(k->name, "logit-mean"))
    return status_set(
        STATUS_BAD_INPUT,
        "%s: holds numbers, not logits: method '%s' is for classes; numbers are combined by their "
        "weighted mean (logit-mean)",
        path, k->name);
  if (is_dense(s) && k->epsilon)
    return status_set(STATUS_BAD_INPUT,
                      "%s: has %lld positions a row, and method '%s' is for rows of one: each position would "
                      "be an answer of its own, and what a row costs of epsilon would be that of %lld rows",
                      path, (long long)s->f.positions, k->name, (long long)s->f.positions);
  if (is_dense(s) && k->n_parameters)
    return status_set(STATUS_BAD_INPUT, "%s: has %lld positions a row, and method '%s' is for rows of one",
                      path, (long long)s->f.positions, k->name);
  return STATUS_OK;
}

static status set_rule(sources *s, const sources_options *o) {
  const char *method = s->f.values && o->of_logits ? NULL : o->method;
  if (!method) method = s->f.values ? "logit-mean" : "probability-mean";
  s->rule = combine_find(method);
  if (s->rule && s->rule->max_teachers && s->n > s->rule->max_teachers)
    return status_set(STATUS_BAD_INPUT, "method '%s' takes up to %d teachers", method, s->rule->max_teachers);
  if (s->rule) return check_rule(s, s->files ? softlabels_path(s->files[0]) : "a teacher");
  status st = status_set(STATUS_BAD_INPUT, "method '%s' is not known; there are:", method);
  for (const combine_kind *const *k = combine_kinds(); *k; k++) status_add_line("%s", (*k)->name);
  return st;
}

static form header_form(const softlabels_header *h) {
  form f = {.classes = h->values ? 1 : h->dims[1], .positions = 1, .steps = 1, .values = h->values != 0};
  const int first = h->values ? 1 : 2;
  for (int i = first; i < h->rank; i++) f.positions *= h->dims[i];
  if (f.positions > 1) f.steps = h->dims[first];
  return f;
}

static status compare_shape(const sources *s, const softlabels_header *a, const softlabels_header *b,
                            const char *first, const char *other) {
  if (a->values != b->values)
    return status_set(STATUS_BAD_INPUT, "%s: holds %s, but %s holds %s", other,
                      b->values ? "numbers" : "logits", first, a->values ? "numbers" : "logits");
  const form fa = header_form(a), fb = header_form(b);
  if (fa.classes != fb.classes && !s->rule->unites)
    return status_set(STATUS_BAD_INPUT,
                      "%s: has %lld classes, but %s has %lld; method 'union' is for teachers of some of the "
                      "classes",
                      other, (long long)fb.classes, first, (long long)fa.classes);
  if (fa.positions != fb.positions || fa.steps != fb.steps)
    return status_set(STATUS_BAD_INPUT, "%s: has %lld positions a row, but %s has %lld", other,
                      (long long)fb.positions, first, (long long)fa.positions);
  return STATUS_OK;
}

/* Epsilon is that of one vote a teacher. */
static status refuse_second_vote(const sources *s, int i) {
  for (int k = 0; k < i && s->rule->epsilon; k++) {
    const char *hash = softlabels_get(s->files[i])->model_hash;
    if (*hash && !strcmp(hash, softlabels_get(s->files[k])->model_hash))
      return status_set(STATUS_BAD_INPUT,
                        "%s: is of the same model as %s, whose second vote would make epsilon wrong",
                        softlabels_path(s->files[i]), softlabels_path(s->files[k]));
  }
  return STATUS_OK;
}

/* The files against the first of them. */
static status compare(const sources *s, int i, bool trust_rows) {
  const softlabels_header *a = softlabels_get(s->files[0]), *b = softlabels_get(s->files[i]);
  const char *first = softlabels_path(s->files[0]), *other = softlabels_path(s->files[i]);
  if (strcmp(a->split, b->split))
    return status_set(STATUS_BAD_INPUT, "%s: is of split '%s', but %s is of '%s'", other, b->split, first,
                      a->split);
  if (strcmp(a->augment, b->augment) || strcmp(a->augment_seed, b->augment_seed) || a->views != b->views)
    return status_set(STATUS_BAD_INPUT, "%s: is of %s, but %s is not; make both of the same views", other,
                      *b->augment ? "changed rows (augment) or of other views" : "the rows as they are",
                      first);
  if (a->dims[0] != b->dims[0])
    return status_set(STATUS_BAD_INPUT, "%s: has %lld rows, but %s has %lld", other, (long long)b->dims[0],
                      first, (long long)a->dims[0]);
  status st = compare_shape(s, a, b, first, other);
  if (!st) st = refuse_second_vote(s, i);
  if (st) return st;
  if (!*a->dataset_hash || !*b->dataset_hash) {
    if (trust_rows) return STATUS_OK;
    return status_set(
        STATUS_BAD_INPUT,
        "%s: does not say which dataset it belongs to (dataset_hash); write the hash that 'mpistill inspect "
        "DATASET' shows, or give --trust-rows",
        *a->dataset_hash ? other : first);
  }
  if (strcmp(a->dataset_hash, b->dataset_hash))
    return status_set(STATUS_BAD_INPUT,
                      "%s: belongs to dataset %s, but %s to %s; make both from the same dataset", other,
                      b->dataset_hash, first, a->dataset_hash);
  return STATUS_OK;
}

static int64_t class_place(const char *name, const char *const *names, int n_names, int64_t classes) {
  for (int i = 0; i < n_names; i++)
    if (!strcmp(names[i], name)) return i;
  int64_t number;
  return !n_names && text_to_int(name, &number) && number >= 0 && number < classes ? number : -1;
}

/* Columns of file i to the classes of the dataset; where the dataset names none, to those of the first file.
 */
static status place_classes(sources *s, int i, dataset *d) {
  status st = STATUS_OK;
  const softlabels_header *h = softlabels_get(s->files[i]), *first = softlabels_get(s->files[0]);
  const char *const *names = d ? dataset_classes(d) : (const char *const *)first->classes;
  int n_names = d ? dataset_n_classes(d) : first->n_classes;
  unsigned char *seen = NULL;
  bool in_order = true;
  if (!h->n_classes || s->f.values) return STATUS_OK;
  TRY(mem_new(&s->place[i], (size_t)s->f.classes, sizeof **s->place));
  TRY(mem_new(&seen, (size_t)s->f.classes, 1));
  for (int64_t j = 0; j < s->f.classes; j++) {
    int64_t at = class_place(h->classes[j], names, n_names, s->f.classes);
    if (at < 0 || at >= s->f.classes || seen[at])
      THROW(STATUS_BAD_INPUT,
            "%s: class '%s' (position %lld) is %s: its classes must be those of %s in some order%s",
            softlabels_path(s->files[i]), h->classes[j], (long long)j,
            at >= 0 && at < s->f.classes ? "named twice" : "not among them",
            d ? dataset_path(d) : softlabels_path(s->files[0]),
            !n_names || h->n_classes < n_names ? "; method 'union' is for teachers of some of the classes"
                                               : "");
    seen[at] = 1;
    s->place[i][j] = at;
    in_order = in_order && at == j;
  }
done:
  if (st || in_order) {
    mem_free(s->place[i]);
    s->place[i] = NULL;
  }
  mem_free(seen);
  return st;
}

/* ---- files that list different classes ---- */

/* All classes there are: those the dataset names, else up to the highest number that a file lists. */
static status unite(sources *s, dataset *d) {
  status st = STATUS_OK;
  s->f.classes = d ? dataset_n_classes(d) : 0;
  const bool named = s->f.classes > 0;
  for (int i = 0; !named && i < s->n; i++) {
    const softlabels_header *h = softlabels_get(s->files[i]);
    if (!h->n_classes && h->dims[1] > s->f.classes) s->f.classes = h->dims[1];
    for (int j = 0; j < h->n_classes; j++) {
      int64_t number;
      if (text_to_int(h->classes[j], &number) && number >= s->f.classes) s->f.classes = number + 1;
    }
  }
  if (s->f.classes > COMBINE_UNION_CLASSES)
    THROW(STATUS_BAD_INPUT, "method '%s' takes up to %d classes", s->rule->name, COMBINE_UNION_CLASSES);
  TRY(mem_new(&s->known, (size_t)s->n, sizeof *s->known));
  TRY(mem_new(&s->others, (size_t)s->n, sizeof *s->others));
done:
  return st;
}

/* Columns of file i to all classes, -1 for that of the others. */
static status place_known(sources *s, int i, dataset *d) {
  status st = STATUS_OK;
  const softlabels_header *h = softlabels_get(s->files[i]);
  const char *path = softlabels_path(s->files[i]);
  TRY(mem_new(&s->known[i], (size_t)s->f.classes, 1));
  TRY(mem_new(&s->place[i], (size_t)h->dims[1], sizeof **s->place));
  if (!h->n_classes && h->dims[1] != s->f.classes)
    THROW(STATUS_BAD_INPUT, "%s: has %lld of %lld classes and does not list them (classes)", path,
          (long long)h->dims[1], (long long)s->f.classes);
  for (int64_t j = 0; j < h->dims[1]; j++) {
    const char *name = h->n_classes ? h->classes[j] : NULL;
    const bool rest = name && !strcmp(name, "*");
    const int64_t at = !name || rest ? j
                                     : class_place(name, d ? dataset_classes(d) : NULL,
                                                   d ? dataset_n_classes(d) : 0, s->f.classes);
    if (rest ? s->others[i] : at < 0 || at >= s->f.classes || s->known[i][at])
      THROW(STATUS_BAD_INPUT,
            "%s: class '%s' (position %lld) is %s; it lists classes of the dataset, and '*' for all others",
            path, name ? name : "", (long long)j, at < 0 ? "not known" : "named twice");
    if (rest)
      s->others[i] = true;
    else
      s->known[i][at] = 1;
    s->place[i][j] = rest ? -1 : at;
  }
  if (h->dims[1] - s->others[i] == s->f.classes && s->others[i])
    THROW(STATUS_BAD_INPUT, "%s: lists all classes: there are no others for its '*'", path);
done:
  return st;
}

static status check_all_known(const sources *s, const dataset *d) {
  if (s->n < 2)
    return status_set(STATUS_BAD_INPUT, "method '%s' takes several soft-label files", s->rule->name);
  for (int64_t c = 0; c < s->f.classes; c++) {
    bool any = false;
    for (int i = 0; i < s->n; i++) any = any || s->known[i][c];
    if (!any && d && dataset_n_classes(d))
      return status_set(STATUS_BAD_INPUT, "no teacher knows class '%s'", dataset_classes(d)[c]);
    if (!any) return status_set(STATUS_BAD_INPUT, "no teacher knows class %lld", (long long)c);
  }
  return STATUS_OK;
}

status sources_open(sources *s, comm *c, const sources_options *o, dataset *d, const split *sp) {
  status st = STATUS_OK;
  dataset *named = NULL; /* whose names of classes these are */
  *s = (sources){0};
  st = mem_new(&s->files, o->paths->n, sizeof *s->files);
  if (!st) st = mem_new(&s->place, o->paths->n, sizeof *s->place);
  TRY(comm_agree(c, st));
  for (; s->n < (int)o->paths->n; s->n++) TRY(softlabels_open(&s->files[s->n], c, o->paths->items[s->n]));
  TRY(comm_agree(c, set_weights(s, o->weights)));
  const softlabels_header *h = softlabels_get(s->files[0]);
  s->rows = h->dims[0];
  s->f = header_form(h);
  TRY(set_rule(s, o));
  if (d && !sp) TRY(dataset_split(d, h->split, &sp));
  if (d && truth_is_named(sp, o->labels)) named = d;
  if (s->rule->unites) TRY(comm_agree(c, unite(s, named)));
  for (int i = 0; i < s->n; i++) {
    TRY(compare(s, i, o->trust_rows));
    if (d) TRY(softlabels_match(s->files[i], d, sp, o->trust_rows));
    TRY(comm_agree(c, s->known ? place_known(s, i, named) : place_classes(s, i, named)));
  }
  if (s->known) TRY(check_all_known(s, named));
done:
  return st;
}

status sources_check(const sources *s) {
  status st = STATUS_OK;
  for (int i = 0; !st && i < sources_n_files(s); i++) st = softlabels_check(s->files[i]);
  return st;
}

status sources_open_live(sources *s, const int *asked, int n, const form *f, const sources_options *o,
                         const struct live *live) {
  status st = STATUS_OK;
  *s = (sources){.n = n, .f = *f, .live = live};
  TRY(mem_new(&s->place, (size_t)n, sizeof *s->place));
  TRY(mem_new(&s->asked, (size_t)n, sizeof *s->asked));
  memcpy(s->asked, asked, (size_t)n * sizeof *asked);
  TRY(set_weights(s, o->weights));
  TRY(set_rule(s, o));
  if (s->rule->unites)
    THROW(STATUS_BAD_INPUT, "method '%s' is not one for live teachers: store their labels (teach)",
          s->rule->name);
done:
  return st;
}

void sources_close(sources *s) {
  for (int i = 0; i < s->n; i++) {
    if (s->files) softlabels_close(&s->files[i]);
    if (s->place) mem_free(s->place[i]);
    if (s->known) mem_free(s->known[i]);
  }
  mem_free(s->known);
  mem_free(s->others);
  mem_free(s->files);
  mem_free(s->place);
  mem_free(s->asked);
  mem_free(s->weights);
  mem_free(s->calibration);
  mem_free(s->class_weights);
  mem_free(s->log_class_weights);
  *s = (sources){0};
}

status sources_check_temperature(const sources *s, double temperature) {
  for (int i = 0; i < sources_n_files(s); i++) {
    double made_for = softlabels_get(s->files[i])->temperature;
    if (made_for > 0 && fabs(made_for - temperature) > 1e-9 * made_for)
      return status_set(
          STATUS_BAD_INPUT,
          "%s: is an ensemble made for temperature %g, but %g is asked for; aggregate again with "
          "--temperature %g, or give the teachers' own files",
          softlabels_path(s->files[i]), made_for, temperature, temperature);
  }
  return STATUS_OK;
}

status sources_temperature(const sources *s, double asked, double *out) {
  *out = asked;
  if (!combine_any_temperature(s->rule, s->n)) return sources_check_temperature(s, asked);
  const char *first = NULL;
  *out = 0;
  for (int i = 0; i < sources_n_files(s); i++) {
    const double its = softlabels_get(s->files[i])->temperature;
    if (!(its > 0)) continue;
    if (first && fabs(its - *out) > 1e-9 * *out)
      return status_set(STATUS_BAD_INPUT,
                        "%s: is an ensemble made for temperature %g, but %s for %g; no ensemble of both "
                        "serves either, so give the teachers' own files",
                        softlabels_path(s->files[i]), its, first, *out);
    first = softlabels_path(s->files[i]);
    *out = its;
  }
  return STATUS_OK;
}

status sources_check_any_temperature(const sources *s, const char *loss) {
  for (int i = 0; i < sources_n_files(s); i++) {
    double made_for = softlabels_get(s->files[i])->temperature;
    if (made_for > 0)
      return status_set(
          STATUS_BAD_INPUT,
          "%s: is an ensemble made for temperature %g, but that of loss '%s' moves; give the teachers' own "
          "files, or an ensemble that serves any temperature (--method logit-mean)",
          softlabels_path(s->files[i]), made_for, loss);
  }
  return STATUS_OK;
}

status sources_weigh_classes(sources *s) {
  status st = mem_new(&s->log_class_weights, (size_t)(s->n * s->f.classes), sizeof *s->log_class_weights);
  for (int64_t i = 0; !st && i < s->n * s->f.classes; i++) s->log_class_weights[i] = log(s->class_weights[i]);
  return st;
}

status sources_take(sources *s, const softlabels_header *ensemble) {
  status st = STATUS_OK;
  const size_t n = (size_t)s->n, classes = (size_t)s->f.classes;
  if (ensemble->n_teachers != s->n || header_form(ensemble).classes != s->f.classes)
    THROW(STATUS_FAILED, "the ensemble is of other teachers");
  memcpy(s->weights, ensemble->weights, n * sizeof *s->weights);
  if (ensemble->calibration) {
    TRY(mem_new(&s->calibration, n, sizeof *s->calibration));
    memcpy(s->calibration, ensemble->calibration, n * sizeof *s->calibration);
  }
  if (ensemble->class_weights) {
    TRY(mem_new(&s->class_weights, n * classes, sizeof *s->class_weights));
    memcpy(s->class_weights, ensemble->class_weights, n * classes * sizeof *s->class_weights);
    TRY(sources_weigh_classes(s));
  }
done:
  return st;
}

/* Rows of a teacher's own classes, [n, width, positions], to rows of all, [n * positions, C]. */
static void spread_rows(const sources *s, int i, int64_t n, const float *raw, float *out) {
  const int64_t width = softlabels_get(s->files[i])->dims[1], positions = s->f.positions;
  for (int64_t r = 0; r < n * positions; r++, out += s->f.classes) {
    const float *z = raw + r / positions * width * positions + r % positions;
    float rest = isnan(z[0]) ? NAN : -INFINITY;
    for (int64_t j = 0; j < width; j++)
      if (s->place[i][j] < 0) rest = z[j * positions];
    for (int64_t c = 0; c < s->f.classes; c++) out[c] = rest;
    for (int64_t j = 0; j < width; j++)
      if (s->place[i][j] >= 0) out[s->place[i][j]] = z[j * positions];
  }
}

/* A file's [n, C, positions] to [n * positions, C], classes in the dataset's order, and calibrated. */
static void finish_rows(const sources *s, int i, int64_t n, const float *raw, float *out) {
  const int64_t classes = s->f.classes, positions = s->f.positions, *place = s->place[i];
  if (s->known) {
    spread_rows(s, i, n, raw, out);
    return;
  }
  for (int64_t r = 0; raw != out && r < n; r++, raw += classes * positions)
    for (int64_t j = 0; j < classes; j++) {
      float *to = out + r * positions * classes + (place ? place[j] : j);
      for (int64_t p = 0; p < positions; p++) to[p * classes] = raw[j * positions + p];
    }
  const int64_t values = n * positions * classes;
  for (int64_t j = 0; s->calibration && j < values; j++) out[j] = (float)(out[j] / s->calibration[i]);
}

/* Whether the file's rows lie as they are wanted. */
static bool is_in_place(const sources *s, int i) {
  return !s->place[i] && (!is_dense(s) || s->f.classes == 1);
}

status sources_read(const sources *s, int i, int64_t from, int64_t n, float *raw, float *out) {
  if (is_in_place(s, i)) raw = out;
  status st = softlabels_read(s->files[i], from, n, raw);
  if (!st) finish_rows(s, i, n, raw, out);
  return st;
}

status sources_rows(const sources *s, int i, const int64_t *ids, int64_t n, float *raw, float *out) {
  if (s->live) {
    live_rows(s->live, s->asked[i], ids, n, out);
    return STATUS_OK;
  }
  if (is_in_place(s, i)) raw = out;
  status st = softlabels_rows(s->files[i], ids, n, raw);
  if (!st) finish_rows(s, i, n, raw, out);
  return st;
}
