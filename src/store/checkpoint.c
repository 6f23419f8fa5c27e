#include "store/checkpoint.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/profile.h"
#include "store/h5.h"
#include "store/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct checkpoint {
  char *path, *inputs, *libraries;
  checkpoint_position at;
};

static status file_of(char **out, const char *folder, int which) {
  return mem_format(out, "%s/%d.h5", folder, which);
}

/* ---- writing ---- */

static status put_position(hid_t file, const char *path, const checkpoint_position *at) {
  status st = STATUS_OK;
  TRY(h5_put_int(file, path, "epoch", at->epoch));
  TRY(h5_put_int(file, path, "batch", at->batch));
  TRY(h5_put_int(file, path, "rollbacks", at->rollbacks));
  TRY(h5_put_doubles(file, path, "rate_scale", &at->rate_scale, 1));
  TRY(h5_put_doubles(file, path, "sums", at->sums, at->n_sums));
done:
  return st;
}

/* Of all that a header says. */
static status hash_header(char text[HASH_TEXT_BYTES], const char *inputs, const char *libraries,
                          const checkpoint_position *at) {
  const int64_t whole[] = {at->epoch, at->batch, at->rollbacks, at->n_sums};
  hash_stream *h = NULL;
  status st = hash_start(&h);
  if (st) return st;
  hash_add(h, inputs, strlen(inputs) + 1);
  hash_add(h, libraries, strlen(libraries) + 1);
  hash_add(h, whole, sizeof whole);
  hash_add(h, &at->rate_scale, sizeof at->rate_scale);
  hash_add(h, at->sums, (size_t)at->n_sums * sizeof *at->sums);
  hash_text(hash_end(&h), text);
  return st;
}

static status put_header(hid_t file, const char *path, const char *inputs, const char *libraries,
                         const checkpoint_position *at) {
  status st = STATUS_OK;
  char text[HASH_TEXT_BYTES];
  TRY(h5_put_text(file, path, "inputs", inputs));
  TRY(h5_put_text(file, path, "libraries", libraries));
  TRY(put_position(file, path, at));
  TRY(hash_header(text, inputs, libraries, at));
  TRY(h5_put_text(file, path, "checksum", text));
done:
  return st;
}

static status put_vector(hid_t group, const char *path, const checkpoint_vector *v, int64_t n) {
  status st = STATUS_OK;
  h5_array a = {0};
  char text[HASH_TEXT_BYTES];
  hash_text(hash_bytes(v->data, (size_t)n * sizeof *v->data), text);
  TRY(h5_array_create(&a, group, path, v->name, ELEMENT_FLOAT32, 1, &n));
  TRY(h5_put_text(a.set, path, "checksum", text));
  TRY(h5_array_write(&a, 0, n, v->data));
done:
  h5_array_close(&a);
  return st;
}

static status write_file(const char *path, const char *inputs, const char *libraries,
                         const checkpoint_position *at, const checkpoint_vector *vectors, int n_vectors,
                         int64_t n) {
  status st = STATUS_OK;
  hid_t file = 0, group = 0;
  TRY(h5_create(&file, path));
  TRY(h5_put_text(file, path, "format", "mpistill-checkpoint"));
  TRY(h5_put_int(file, path, "version", 1));
  TRY(put_header(file, path, inputs, libraries, at));
  TRY(h5_group(&group, file, path, "vectors"));
  for (int i = 0; i < n_vectors; i++) TRY(put_vector(group, path, &vectors[i], n));
  h5_close(&group);
  TRY(h5_finish(&file, path));
done:
  h5_close(&group);
  h5_close(&file);
  return st;
}

/* 0 or 1: the one that is missing, or was written before the other. By the position in it, not by the clock.
 */
static status older(const char *folder, int *which);

status checkpoint_write(const char *folder, const char *inputs, const char *libraries,
                        const checkpoint_position *at, const checkpoint_vector *vectors, int n_vectors,
                        int64_t n) {
  status st = STATUS_OK;
  const profile_phase before = profile_enter(PROFILE_WRITE);
  char *path = NULL, *part = NULL;
  int which;
  TRY(file_make_folder(folder));
  TRY(older(folder, &which));
  TRY(file_of(&path, folder, which));
  TRY(mem_format(&part, "%s.part", path));
  TRY(write_file(part, inputs, libraries, at, vectors, n_vectors, n));
  TRY(file_commit(path));
done:
  profile_enter(before);
  mem_free(path);
  mem_free(part);
  return st;
}

/* ---- reading ---- */

static status get_position(hid_t file, const char *path, checkpoint_position *at) {
  status st = STATUS_OK;
  double *rate = NULL, *sums = NULL;
  int64_t n;
  TRY(h5_get_int(file, path, "epoch", 0, INT64_MAX, -1, &at->epoch));
  TRY(h5_get_int(file, path, "batch", 0, INT64_MAX, -1, &at->batch));
  TRY(h5_get_int(file, path, "rollbacks", 0, 1000, -1, &at->rollbacks));
  TRY(h5_get_numbers(file, path, "rate_scale", &rate, &n));
  TRY(h5_get_numbers(file, path, "sums", &sums, &at->n_sums));
  if (at->epoch < 0 || at->batch < 0 || at->rollbacks < 0 || n != 1 || at->n_sums > CHECKPOINT_MAX_SUMS)
    THROW(STATUS_BAD_INPUT, "%s: is not a whole checkpoint", path);
  at->rate_scale = *rate;
  if (at->n_sums) memcpy(at->sums, sums, (size_t)at->n_sums * sizeof *sums);
done:
  mem_free(rate);
  mem_free(sums);
  return st;
}

/* Those of versions before this one have no checksum of it. */
static status verify_header(const checkpoint *k, hid_t file) {
  status st = STATUS_OK;
  char text[HASH_TEXT_BYTES], *wanted = NULL;
  TRY(h5_get_text(file, k->path, "checksum", &wanted));
  if (!wanted) goto done;
  TRY(hash_header(text, k->inputs, k->libraries, &k->at));
  if (strcmp(wanted, text))
    THROW(STATUS_BAD_INPUT, "%s: its attributes do not match their checksum", k->path);
done:
  mem_free(wanted);
  return st;
}

static status get_header(checkpoint *k, hid_t file) {
  status st = STATUS_OK;
  TRY(h5_check_format(file, k->path, "mpistill-checkpoint"));
  TRY(h5_get_text(file, k->path, "inputs", &k->inputs));
  TRY(h5_get_text(file, k->path, "libraries", &k->libraries));
  if (!k->inputs || !k->libraries) THROW(STATUS_BAD_INPUT, "%s: is not a whole checkpoint", k->path);
  TRY(get_position(file, k->path, &k->at));
  TRY(verify_header(k, file));
done:
  return st;
}

static status verify_vector(hid_t group, const char *path, const char *name, bool data) {
  status st = STATUS_OK;
  enum { PIECE = 1 << 18 };
  h5_array a = {0};
  hash_stream *h = NULL;
  float *piece = NULL;
  char text[HASH_TEXT_BYTES], *wanted = NULL;
  TRY(h5_array_open(&a, group, path, name));
  if (a.type != ELEMENT_FLOAT32 || a.rank != 1)
    THROW(STATUS_BAD_INPUT, "%s: %s: is not a vector of float32", path, name);
  TRY(h5_get_text(a.set, path, "checksum", &wanted));
  if (!data) goto done;
  TRY(hash_start(&h));
  TRY(mem_new(&piece, PIECE, sizeof *piece));
  for (int64_t from = 0; from < a.dims[0]; from += PIECE) {
    int64_t n = a.dims[0] - from < PIECE ? a.dims[0] - from : PIECE;
    TRY(h5_array_read(&a, from, n, piece));
    hash_add(h, piece, (size_t)n * sizeof *piece);
  }
  hash_text(hash_end(&h), text);
  if (!wanted || strcmp(wanted, text))
    THROW(STATUS_BAD_INPUT, "%s: %s: does not match its checksum", path, name);
done:
  hash_end(&h);
  h5_array_close(&a);
  mem_free(piece);
  mem_free(wanted);
  return st;
}

/* data: their checksums as well, not the headers alone. */
static status verify_vectors(hid_t file, const char *path, bool data) {
  status st = STATUS_OK;
  hid_t group = 0;
  char **names = NULL;
  bool *is_group = NULL;
  int n = 0;
  group = H5Gopen2(file, "vectors", H5P_DEFAULT);
  if (group < 0) {
    group = 0;
    THROW(STATUS_BAD_INPUT, "%s: is not a whole checkpoint: it has no /vectors", path);
  }
  TRY(h5_list(group, path, "/vectors", &names, &is_group, &n));
  for (int i = 0; i < n; i++) TRY(verify_vector(group, path, names[i], data));
done:
  h5_texts_free(&names, &n);
  mem_free(is_group);
  h5_close(&group);
  return st;
}

static status read_header(checkpoint *k, const char *folder, int which) {
  status st = STATUS_OK;
  hid_t file = 0;
  TRY(file_of(&k->path, folder, which));
  TRY(h5_open(&file, k->path));
  TRY(get_header(k, file));
done:
  h5_close(&file);
  return st;
}

static void clear(checkpoint *k) {
  mem_free(k->path);
  mem_free(k->inputs);
  mem_free(k->libraries);
  *k = (checkpoint){0};
}

/* For ask_child: that libhdf5 can read it, and all checksums. Headers that it does not come to the end of are
 * damaged; the data may take its time. */
static status look(const char *path, wire *w) {
  status st = STATUS_OK;
  hid_t file = 0;
  checkpoint k = {0};
  int version = 1;
  TRY(mem_string(&k.path, path));
  TRY(h5_open(&file, path));
  TRY(get_header(&k, file));
  TRY(verify_vectors(file, path, false));
  alarm(0);
  TRY(verify_vectors(file, path, true));
  TRY(wire_int(w, &version));
done:
  h5_close(&file);
  clear(&k);
  return st;
}

static bool is_before(const checkpoint_position *a, const checkpoint_position *b) {
  if (a->rollbacks != b->rollbacks) return a->rollbacks < b->rollbacks;
  return a->epoch != b->epoch ? a->epoch < b->epoch : a->batch < b->batch;
}

static status older(const char *folder, int *which) {
  status st = STATUS_OK;
  checkpoint k[2] = {{0}};
  bool whole[2];
  for (int i = 0; i < 2; i++) whole[i] = read_header(&k[i], folder, i) == STATUS_OK;
  *which = !whole[0] ? 0 : !whole[1] ? 1 : !is_before(&k[0].at, &k[1].at);
  for (int i = 0; i < 2; i++) clear(&k[i]);
  status_clear();
  return st;
}

static bool is_there(const char *folder, int which) {
  char *path = NULL;
  bool there = !file_of(&path, folder, which) && file_exists(path);
  mem_free(path);
  return there;
}

/* What work tells of a file, from a child process: a damaged one may take libhdf5 with it. */
static status ask_child(const char *path, status (*work)(const char *path, wire *w), int *answer) {
  status st = STATUS_OK;
  comm *alone = NULL;
  wire w = {0};
  TRY(comm_alone(&alone));
  TRY(wire_fetch(&w, alone, path, work));
  TRY(wire_int(&w, answer));
done:
  wire_free(&w);
  comm_end(&alone);
  return st;
}

static bool is_readable(const char *folder, int which) {
  char *path = NULL;
  int version;
  status st = file_of(&path, folder, which);
  if (!st) st = ask_child(path, look, &version);
  mem_free(path);
  return !st;
}

/* For ask_child: whether it is an HDF5 file of another kind. */
static status look_foreign(const char *path, wire *w) {
  status st = STATUS_OK;
  hid_t file = 0;
  char *format = NULL;
  int foreign;
  TRY(h5_open(&file, path));
  TRY(h5_get_text(file, path, "format", &format));
  foreign = !format || strcmp(format, "mpistill-checkpoint") != 0;
  TRY(wire_int(w, &foreign));
done:
  mem_free(format);
  h5_close(&file);
  return st;
}

static bool is_foreign(const char *path) {
  int foreign;
  const bool is = !ask_child(path, look_foreign, &foreign) && foreign;
  status_clear();
  return is;
}

status checkpoint_check_folder(const char *folder) {
  status st = STATUS_OK;
  char *path = NULL;
  for (int i = 0; i < 2; i++) {
    TRY(file_of(&path, folder, i));
    if (file_exists(path) && is_foreign(path))
      THROW(STATUS_BAD_INPUT, "%s: is no checkpoint, and one would take its place; use another --checkpoint",
            path);
    mem_free(path);
    path = NULL;
  }
done:
  mem_free(path);
  return st;
}

/* The newest of the two that is whole, -1 where there is none. faults: what is wrong with those that are not;
 * the caller's. */
static int choose(const char *folder, char *faults[2]) {
  checkpoint k[2] = {{0}};
  bool whole[2];
  for (int i = 0; i < 2; i++) {
    whole[i] = is_readable(folder, i) && read_header(&k[i], folder, i) == STATUS_OK;
    if (!whole[i] && is_there(folder, i)) mem_string(&faults[i], status_message());
  }
  int best = whole[0] ? 0 : whole[1] ? 1 : -1;
  if (whole[0] && whole[1] && is_before(&k[0].at, &k[1].at)) best = 1;
  for (int i = 0; i < 2; i++) clear(&k[i]);
  status_clear();
  return best;
}

static status find(const char *folder, int *which, char **warning) {
  status st = STATUS_OK;
  char *faults[2] = {NULL, NULL}, *path = NULL;
  TRY(checkpoint_check_folder(folder));
  *which = choose(folder, faults);
  const char *fault = faults[0] ? faults[0] : faults[1];
  if (fault && *which >= 0) {
    TRY(file_of(&path, folder, *which));
    TRY(mem_format(warning, "%s; %s is gone on from", fault, path));
  } else if (fault) {
    st = status_set(STATUS_BAD_INPUT,
                    "%s: there is no whole checkpoint to go on from; --restart begins anew:", folder);
    for (int i = 0; i < 2; i++)
      if (faults[i]) status_add_line("%s", faults[i]);
  }
done:
  mem_free(path);
  mem_free(faults[0]);
  mem_free(faults[1]);
  return st;
}

status checkpoint_open(checkpoint **out, comm *c, const char *folder, char **warning) {
  status st = STATUS_OK;
  checkpoint *k = NULL;
  int which = -1;
  *out = NULL;
  TRY(comm_agree(c, comm_rank(c) == 0 ? find(folder, &which, warning) : STATUS_OK));
  TRY(comm_broadcast(c, 0, &which, sizeof which));
  if (which < 0) goto done;
  st = mem_new(&k, 1, sizeof *k);
  if (!st) st = read_header(k, folder, which);
  TRY(comm_agree(c, st));
  *out = k;
  k = NULL;
done:
  checkpoint_close(&k);
  return st;
}

void checkpoint_close(checkpoint **k) {
  if (!*k) return;
  clear(*k);
  mem_free(*k);
  *k = NULL;
}

const char *checkpoint_inputs(const checkpoint *k) {
  return k->inputs;
}

const char *checkpoint_libraries(const checkpoint *k) {
  return k->libraries;
}

const char *checkpoint_path(const checkpoint *k) {
  return k->path;
}

const checkpoint_position *checkpoint_at(const checkpoint *k) {
  return &k->at;
}

status checkpoint_read(const checkpoint *k, const char *name, int64_t from, int64_t n, float *out) {
  status st = STATUS_OK;
  hid_t file = 0;
  h5_array a = {0};
  char full[64];
  snprintf(full, sizeof full, "vectors/%s", name);
  TRY(h5_open(&file, k->path));
  TRY(h5_array_open(&a, file, k->path, full));
  if (a.type != ELEMENT_FLOAT32 || a.rank != 1 || a.dims[0] < from + n)
    THROW(STATUS_BAD_INPUT, "%s: /%s: is not a vector of at least %lld float32", k->path, full,
          (long long)(from + n));
  if (n) TRY(h5_array_read(&a, from, n, out));
done:
  h5_array_close(&a);
  h5_close(&file);
  return st;
}

void checkpoint_remove(const char *folder) {
  static const char *const endings[] = {"0.h5", "1.h5", "0.h5.part", "1.h5.part"};
  for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
    char *path;
    if (file_join(&path, folder, endings[i])) continue;
    unlink(path);
    mem_free(path);
  }
  rmdir(folder);
}
