#include "stages/features.h"

#include "base/mem.h"
#include "stages/options_rows.h"

#include <string.h>

enum { PARAMETER_ALIGNMENT = 16, NAME_MAX_BYTES = 512 };

/* ---- files ---- */

static status open_files(features *f, comm *c, const mpistill_train_options *o, dataset *d, const split *sp) {
  status st = STATUS_OK;
  TRY(comm_agree(c, mem_new(&f->files, o->feature_files.n, sizeof *f->files)));
  for (size_t i = 0; i < o->feature_files.n; i++) {
    TRY(softlabels_open(&f->files[f->n_files], c, o->feature_files.items[i]));
    f->n_files++;
    TRY(softlabels_match(f->files[i], d, sp, o->trust_rows));
  }
done:
  return st;
}

status features_check_files(const features *f) {
  status st = STATUS_OK;
  for (int i = 0; !st && i < f->n_files; i++) st = softlabels_check(f->files[i]);
  return st;
}

static const char *teacher_of(const softlabels *s) {
  return softlabels_get(s)->teacher;
}

static status refuse_two(const mpistill_feature *o, const char *a, const char *b, const char *tensor) {
  return status_set(STATUS_BAD_INPUT,
                    "feature '%s': teachers '%s' and '%s' have a tensor '%s'; name one (from)", o->kind, a, b,
                    tensor);
}

/* The file among n that has the teacher's tensor; NULL: none yet. */
static status search(softlabels *const *files, int n, const mpistill_feature *o, const char *tensor,
                     softlabels **found) {
  for (int i = 0; i < n; i++) {
    if (o->from && strcmp(o->from, teacher_of(files[i]))) continue;
    if (softlabels_feature_find(files[i], tensor) < 0) continue;
    if (*found && strcmp(teacher_of(*found), teacher_of(files[i])))
      return refuse_two(o, teacher_of(*found), teacher_of(files[i]), tensor);
    if (!*found) *found = files[i];
  }
  return STATUS_OK;
}

/* *teacher is -1 where no live teacher has it, too. */
static status search_live(const features *f, const mpistill_feature *o, const char *tensor, int *teacher) {
  const tutors *t = live_inner(f->teachers);
  *teacher = -1;
  for (int i = 0; t && i < t->n; i++) {
    const char *name = t->items[i].t.name;
    if ((o->from && strcmp(o->from, name)) || tutors_find_inner(&t->items[i], tensor) < 0) continue;
    if (*teacher >= 0 && strcmp(t->items[*teacher].t.name, name))
      return refuse_two(o, t->items[*teacher].t.name, name, tensor);
    if (*teacher < 0) *teacher = i;
  }
  return STATUS_OK;
}

static status refuse_missing(const features *f, const mpistill_feature *o, const char *tensor) {
  const char *of = o->from ? " of teacher " : "", *name = o->from ? o->from : "";
  if (live_inner(f->teachers))
    return status_set(STATUS_BAD_INPUT,
                      "feature '%s': no live teacher%s%s%s has a tensor '%s' of floats; 'mpistill inspect "
                      "MODEL' lists them, and --features-from names files of teachers that are not live",
                      o->kind, o->from ? " '" : "", name, o->from ? "'" : "", tensor);
  return status_set(
      STATUS_BAD_INPUT,
      "feature '%s': no soft-label file%s%s has a tensor '%s'; store it with teach --tap, and see "
      "--features-from",
      o->kind, of, name, tensor);
}

/* A file that was given serves before a model that would have to be asked. */
static status find_tensor(features *f, const tasks *work, const mpistill_feature *o, const char *tensor,
                          softlabels **found, int *teacher) {
  *found = NULL;
  *teacher = -1;
  status st = STATUS_OK;
  for (int i = 0; !st && i < work->n; i++)
    st = search(work->items[i].soft.files, sources_n_files(&work->items[i].soft), o, tensor, found);
  if (!st) st = search(f->files, f->n_files, o, tensor, found);
  if (st || *found) return st;
  st = search_live(f, o, tensor, teacher);
  if (!st && *teacher < 0) st = refuse_missing(f, o, tensor);
  if (!st) live_want_inner(f->teachers, *teacher);
  return st;
}

/* ---- terms ---- */

/* "{}" in a name becomes the layer's. */
static status put_layer(const char *name, const char *layer, size_t n, char out[NAME_MAX_BYTES]) {
  size_t used = 0;
  for (const char *at = name; *at;) {
    const bool here = layer && at[0] == '{' && at[1] == '}';
    const size_t bytes = here ? n : 1;
    if (used + bytes >= NAME_MAX_BYTES)
      return status_set(STATUS_BAD_INPUT, "feature: the name '%.40s...' is too long", name);
    memcpy(out + used, here ? layer : at, bytes);
    used += bytes;
    at += here ? 2 : 1;
  }
  out[used] = '\0';
  return STATUS_OK;
}

static void add_tensor(features *f, const feature_tensor *t, int *place) {
  for (*place = 0; *place < f->n_tensors; ++*place) {
    const feature_tensor *had = &f->tensors[*place];
    if (had->file == t->file && had->teacher == t->teacher && had->feature == t->feature) return;
  }
  f->tensors[f->n_tensors++] = *t;
}

static status stored_tensor(softlabels *file, const char *name, feature_tensor *out) {
  const int feature = softlabels_feature_find(file, name);
  const softlabels_feature *from = &softlabels_get(file)->features[feature];
  shape s = {.rank = from->rank};
  if (from->rank > SHAPE_MAX_RANK)
    return status_set(STATUS_BAD_INPUT, "%s: %s has %d dimensions", softlabels_path(file), from->object,
                      from->rank);
  memcpy(s.dims, from->dims, (size_t)from->rank * sizeof *s.dims);
  *out = (feature_tensor){file, -1, feature, feature_map_of(&s)};
  return STATUS_OK;
}

static feature_tensor live_tensor(const features *f, int teacher, const char *name) {
  const tutor *t = &live_inner(f->teachers)->items[teacher];
  const int place = tutors_find_inner(t, name);
  return (feature_tensor){NULL, teacher, place, feature_map_of(&t->inner[place])};
}

/* Tensor i of a term, by its names; NULL: that of tensor 0. */
static status bind(features *f, feature_term *t, int i, const char *student, const char *teacher,
                   const tasks *work, classifier *k) {
  status st = STATUS_OK;
  softlabels *file;
  feature_tensor its;
  int from;
  shape s;
  TRY(classifier_tap(k, student, &t->student[i], &s));
  t->mine[i] = feature_map_of(&s);
  TRY(find_tensor(f, work, &t->options, teacher, &file, &from));
  if (file)
    TRY(stored_tensor(file, teacher, &its));
  else
    its = live_tensor(f, from, teacher);
  add_tensor(f, &its, &t->teacher[i]);
done:
  return st;
}

/* That tensors [FEATURE_TENSORS] of those names, the first of them, go together. */
static status check_maps(const mpistill_feature *o, const feature_kind *k, const feature_map *mine,
                         const feature_map *its, const char *student, const char *teacher) {
  status st = STATUS_OK;
  char *why = NULL, my_text[128], its_text[128];
  st = k->check ? k->check(o, mine, its) : STATUS_OK;
  if (st != STATUS_BAD_INPUT || mem_string(&why, status_message())) return st;
  shape s = its[0].shape;
  s.dims[0] = -1;
  status_set(st, "feature '%s': the student's '%s' is %s, the teacher's '%s' is %s: %s", o->kind, student,
             shape_text(&mine[0].shape, my_text, sizeof my_text), teacher,
             shape_text(&s, its_text, sizeof its_text), why);
  mem_free(why);
  return st;
}

typedef struct layer_pair { /* texts for "{}" in the names, NULL: none */
  const char *mine, *its;
  size_t n_mine, n_its;
} layer_pair;

static status add_term(features *f, const mpistill_feature *o, const layer_pair *pair, const tasks *work,
                       classifier *k) {
  status st = STATUS_OK;
  char student[NAME_MAX_BYTES], teacher[NAME_MAX_BYTES];
  if (f->n == FEATURES_MAX)
    THROW(STATUS_BAD_INPUT, "features: more than %d, each layer counted", FEATURES_MAX);
  feature_term *t = &f->terms[f->n++];
  *t = (feature_term){.options = *o, .kind = feature_find(o->kind), .first = f->n_parameters};
  if (!t->kind) THROW(STATUS_BAD_INPUT, "feature '%s' is not known", o->kind);
  if (o->student_to) {
    TRY(put_layer(o->student_to, pair->mine, pair->n_mine, student));
    TRY(put_layer(o->teacher_to, pair->its, pair->n_its, teacher));
    TRY(bind(f, t, 1, student, teacher, work, k));
  }
  TRY(put_layer(o->student, pair->mine, pair->n_mine, student));
  TRY(put_layer(o->teacher, pair->its, pair->n_its, teacher));
  TRY(bind(f, t, 0, student, teacher, work, k));
  if (!o->student_to) {
    t->student[1] = t->student[0];
    t->teacher[1] = t->teacher[0];
    t->mine[1] = t->mine[0];
  }
  TRY(mem_format(&t->name, "%s:%s", o->kind, student));
  const feature_map maps[] = {f->tensors[t->teacher[0]].map, f->tensors[t->teacher[1]].map};
  TRY(check_maps(o, t->kind, t->mine, maps, student, teacher));
  if (t->kind->parameters) t->n_parameters = t->kind->parameters(o, t->mine, maps);
  f->n_parameters += (t->n_parameters + PARAMETER_ALIGNMENT - 1) / PARAMETER_ALIGNMENT * PARAMETER_ALIGNMENT;
done:
  return st;
}

/* "0-2,1-5": the student's layer, the teacher's. Takes the next pair from *at; both are NULL without layers.
 */
static status next_pair(const mpistill_feature *o, const char **at, layer_pair *out) {
  *out = (layer_pair){0};
  if (!*at) return STATUS_OK;
  size_t n = strcspn(*at, ","), mine = strcspn(*at, "-,");
  if (!mine || mine + 1 >= n)
    return status_set(STATUS_BAD_INPUT, "feature '%s': layers are '%s'; pairs were expected, as in 0-2,1-5",
                      o->kind, o->layers);
  *out = (layer_pair){*at, *at + mine + 1, mine, n - mine - 1};
  *at += n + ((*at)[n] == ',');
  return STATUS_OK;
}

status features_check_layers(const mpistill_feature *o) {
  const char *tensors[] = {o->student, o->teacher, o->student_to, o->teacher_to};
  bool placed = false;
  for (int i = 0; i < 4; i++) placed = placed || (tensors[i] && strstr(tensors[i], "{}"));
  if (placed && !o->layers)
    return status_set(STATUS_BAD_INPUT,
                      "feature '%s': {} in a tensor's name stands for a layer; give layers, "
                      "pairs of the student's and the teacher's, as in 0-2,1-5",
                      o->kind);
  if (!placed && o->layers)
    return status_set(STATUS_BAD_INPUT,
                      "feature '%s': layers are given, but no tensor's name has a {} that "
                      "stands for them, as in block.{}.out",
                      o->kind);
  return STATUS_OK;
}

static status add_terms(features *f, const mpistill_feature *o, const tasks *work, classifier *k) {
  status st = STATUS_OK;
  const char *at = o->layers;
  do {
    layer_pair pair;
    TRY(next_pair(o, &at, &pair));
    TRY(add_term(f, o, &pair, work, k));
  } while (at && *at);
done:
  return st;
}

static status add_all(features *f, const mpistill_train_options *o, const tasks *work, classifier *k) {
  status st = STATUS_OK;
  for (size_t i = 0; i < o->features.n; i++)
    if (o->features.items[i].weight > 0) TRY(add_terms(f, &o->features.items[i], work, k));
done:
  return st;
}

status features_open(features *f, comm *c, const mpistill_train_options *o, const tasks *work, dataset *d,
                     const split *sp, classifier *k, live *teachers) {
  status st = STATUS_OK;
  *f = (features){.first_tap = k->n_heads, .teachers = teachers};
  if (!o->features.n) goto done;
  TRY(open_files(f, c, o, d, sp));
  TRY(comm_agree(c, add_all(f, o, work, k)));
done:
  return st;
}

void features_close(features *f) {
  for (int i = 0; i < f->n_files; i++) softlabels_close(&f->files[i]);
  for (int i = 0; i < f->n; i++) mem_free(f->terms[i].name);
  mem_free(f->files);
  *f = (features){0};
}

bool features_ask(const features *f) {
  for (int i = 0; i < f->n_tensors; i++)
    if (!f->tensors[i].file) return true;
  return false;
}

status features_load(const features *f) {
  status st = STATUS_OK;
  for (int i = 0; i < f->n_tensors; i++)
    if (f->tensors[i].file) TRY(softlabels_feature_load(f->tensors[i].file, f->tensors[i].feature, 0));
done:
  return st;
}

status features_check_shards(const mpistill_features *list, const int64_t *sizes, int n_sizes) {
  for (size_t i = 0; i < list->n; i++)
    for (int s = 0; feature_find(list->items[i].kind)->relates_rows && s < n_sizes; s++)
      if (sizes[s] == 1)
        return status_set(
            STATUS_BAD_INPUT,
            "feature '%s' compares the rows of a shard, and some shards would have one row; choose "
            "--batch and --shards so that every shard has two or more, those of the last batch of "
            "an epoch too",
            list->items[i].kind);
  return STATUS_OK;
}

/* ---- what terms learn themselves ---- */

/* Streams far from those of a model's parameters. */
static const uint64_t FIRST_STREAM = (uint64_t)1 << 32;

void features_initial(const features *f, uint64_t seed, float *to) {
  memset(to, 0, (size_t)f->n_parameters * sizeof *to);
  for (int i = 0; i < f->n; i++) {
    const feature_term *t = &f->terms[i];
    const feature_map maps[] = {f->tensors[t->teacher[0]].map, f->tensors[t->teacher[1]].map};
    if (t->n_parameters)
      t->kind->initial(&t->options, t->mine, maps, seed, FIRST_STREAM + (uint64_t)i, to + t->first);
  }
}

/* ---- one shard ---- */

int64_t features_row_values(const features *f) {
  int64_t n = 0;
  for (int i = 0; i < f->n_tensors; i++) n += f->tensors[i].map.row_values;
  return n;
}

size_t features_scratch(const features *f, int64_t rows) {
  size_t most = 0;
  for (int i = 0; i < f->n; i++) {
    const feature_term *t = &f->terms[i];
    const feature_map maps[] = {f->tensors[t->teacher[0]].map, f->tensors[t->teacher[1]].map};
    size_t n = t->kind->scratch(&t->options, rows, t->mine, maps);
    most = n > most ? n : most;
  }
  return most;
}

status features_rows(const features *f, const int64_t *ids, const int64_t *stored, int64_t n, float *out) {
  status st = STATUS_OK;
  for (int i = 0; i < f->n_tensors; i++) {
    const feature_tensor *t = &f->tensors[i];
    if (t->file)
      TRY(softlabels_feature_rows(t->file, t->feature, stored, n, out));
    else
      live_inner_rows(f->teachers, t->teacher, t->feature, ids, n, out);
    out += n * t->map.row_values;
  }
done:
  return st;
}

static tensor *gradient_of(const features *f, const plan *p, int inner) {
  return plan_tap_gradient(p, f->first_tap + inner);
}

status features_check_plan(const features *f, const plan *p, const classifier *k) {
  for (int i = 0; f->n && i < k->n_inner; i++)
    if (!gradient_of(f, p, i))
      return status_set(STATUS_BAD_INPUT, "%s: nothing that is trained lies before tensor '%s'", k->path,
                        k->g->values[k->inner[i]].name);
  return STATUS_OK;
}

void features_evaluate(const features *f, const plan *p, int64_t rows, int64_t batch_rows,
                       const float *teacher, const float *parameters, float *parameter_gradient,
                       double *scratch, double *parts) {
  const float *at[FEATURES_MAX_TENSORS];
  for (int i = 0; i < f->n_tensors; i++) {
    at[i] = teacher;
    teacher += rows * f->tensors[i].map.row_values;
  }
  memset(parameter_gradient, 0, (size_t)f->n_parameters * sizeof *parameter_gradient);
  for (int i = 0; i < f->n; i++) {
    const feature_term *t = &f->terms[i];
    feature_batch b = {.rows = rows, .batch_rows = batch_rows, .scratch = scratch};
    for (int j = 0; j < FEATURE_TENSORS; j++) {
      b.student[j] = t->mine[j];
      b.student[j].values = plan_tap(p, f->first_tap + t->student[j])->data;
      b.teacher[j] = f->tensors[t->teacher[j]].map;
      b.teacher[j].values = at[t->teacher[j]];
      b.gradient[j] = gradient_of(f, p, t->student[j])->data;
    }
    b.parameters = parameters + t->first;
    b.parameter_gradient = parameter_gradient + t->first;
    parts[i] = t->kind->evaluate(&t->options, &b);
  }
}

/* ---- JSON ---- */

static json_t *value_json(const option *row, const char *field) {
  if (row->type == OPTION_INT) return json_integer(*(const int64_t *)field);
  if (row->type == OPTION_REAL) return json_real(*(const double *)field);
  return json_pack("s?", *(char *const *)field);
}

/* ---- names ---- */

static status add_name(mpistill_strings *names, const char *name) {
  for (size_t i = 0; i < names->n; i++)
    if (!strcmp(names->items[i], name)) return STATUS_OK;
  status st = mem_resize(&names->items, names->n, names->n + 1, sizeof *names->items);
  if (!st) st = mem_string(&names->items[names->n], name);
  if (!st) names->n++;
  return st;
}

static status add_names(const mpistill_feature *o, bool of_student, mpistill_strings *names) {
  status st = STATUS_OK;
  char name[NAME_MAX_BYTES];
  const char *at = o->layers,
             *tensors[] = {of_student ? o->student : o->teacher, of_student ? o->student_to : o->teacher_to};
  do {
    layer_pair pair;
    TRY(next_pair(o, &at, &pair));
    for (int i = 0; i < FEATURE_TENSORS && tensors[i]; i++) {
      TRY(put_layer(tensors[i], of_student ? pair.mine : pair.its, of_student ? pair.n_mine : pair.n_its,
                    name));
      TRY(add_name(names, name));
    }
  } while (at && *at);
done:
  return st;
}

bool features_teach(const mpistill_features *list) {
  for (size_t i = 0; i < list->n; i++)
    if (list->items[i].weight > 0) return true;
  return false;
}

status features_tensors(const mpistill_features *list, const char *teacher, mpistill_strings *names) {
  status st = STATUS_OK;
  for (size_t i = 0; i < list->n; i++) {
    const mpistill_feature *o = &list->items[i];
    if (!teacher || !o->from || !strcmp(o->from, teacher)) TRY(add_names(o, !teacher, names));
  }
done:
  return st;
}

static status tap_map(classifier *k, const char *name, feature_map *out) {
  int place;
  shape s;
  status st = classifier_tap(k, name, &place, &s);
  if (!st) *out = feature_map_of(&s);
  return st;
}

/* One term, from the models that its tensors are of. */
static status check_pair(const mpistill_feature *o, const layer_pair *pair, classifier *student,
                         classifier *teacher) {
  status st = STATUS_OK;
  char names[2][NAME_MAX_BYTES];
  const char *mine[] = {o->student, o->student_to ? o->student_to : o->student},
             *its[] = {o->teacher, o->teacher_to ? o->teacher_to : o->teacher};
  feature_map maps[2][FEATURE_TENSORS];
  for (int i = FEATURE_TENSORS - 1; i >= 0; i--) {
    TRY(put_layer(mine[i], pair->mine, pair->n_mine, names[0]));
    TRY(put_layer(its[i], pair->its, pair->n_its, names[1]));
    TRY(tap_map(student, names[0], &maps[0][i]));
    TRY(tap_map(teacher, names[1], &maps[1][i]));
  }
  TRY(check_maps(o, feature_find(o->kind), maps[0], maps[1], names[0], names[1]));
done:
  return st;
}

status features_check(const mpistill_features *list, const char *name, classifier *student,
                      classifier *teacher) {
  status st = STATUS_OK;
  for (size_t i = 0; i < list->n; i++) {
    const mpistill_feature *o = &list->items[i];
    const char *at = o->layers;
    if (!(o->weight > 0) || (o->from && strcmp(o->from, name))) continue;
    do {
      layer_pair pair;
      TRY(next_pair(o, &at, &pair));
      TRY(check_pair(o, &pair, student, teacher));
    } while (at && *at);
  }
done:
  return st;
}

json_t *features_json(const mpistill_features *list) {
  json_t *all = json_array();
  for (size_t i = 0; i < list->n; i++) {
    const mpistill_feature *o = &list->items[i];
    const feature_kind *k = feature_find(o->kind);
    json_t *one = json_object();
    for (const option *row = feature_fields; row->key; row++)
      if (k && feature_reads(k, row->key))
        json_object_set_new(one, row->key, value_json(row, (const char *)o + row->at));
    json_array_append_new(all, one);
  }
  return all;
}
