#include "stages/learned_labels.h"

#include "base/mem.h"

#include <string.h>

static const array *label_array(const split *sp) {
  for (int i = 0; i < sp->n_labels; i++)
    if (!strcmp(sp->labels[i].name, "label")) return &sp->labels[i];
  return NULL;
}

static status check_labels(const int32_t *labels, const dataset *d, const split *sp, const classifier *k,
                           const objective *goal, bool has_soft) {
  int64_t labelled = 0;
  for (int64_t i = 0; i < sp->n; i++) {
    if (labels[i] < -1 || labels[i] >= k->classes)
      return status_set(STATUS_BAD_INPUT,
                        "%s: /%s/label row %lld is %d, but %s has %lld classes (0 to %lld, -1: not labelled)",
                        dataset_path(d), sp->name, (long long)i, labels[i], k->path, (long long)k->classes,
                        (long long)k->classes - 1);
    labelled += labels[i] >= 0;
  }
  if (!labelled && !has_soft)
    return status_set(STATUS_BAD_INPUT,
                      "%s: /%s/label has no labelled row and there are no soft labels to learn from",
                      dataset_path(d), sp->name);
  if (!labelled && goal->needs_both)
    return status_set(STATUS_BAD_INPUT,
                      "loss '%s' learns from rows with a label, and no row of /%s of %s has one",
                      goal->needs_both, sp->name, dataset_path(d));
  return STATUS_OK;
}

static status read_labels(int32_t *labels, comm *c, dataset *d, const split *sp, const array *a) {
  status st = STATUS_OK;
  rows *r = NULL;
  int64_t *ids = NULL;
  if (a->rank != 1)
    THROW(STATUS_BAD_INPUT, "%s: /%s/label has %d dimensions, expected [rows]", dataset_path(d), sp->name,
          a->rank);
  TRY(comm_agree(c, mem_new(&ids, (size_t)sp->n, sizeof *ids)));
  for (int64_t i = 0; i < sp->n; i++) ids[i] = i;
  TRY(rows_open(&r, d, sp, a, 0));
  TRY(comm_agree(c, rows_ints(r, ids, sp->n, labels)));
done:
  rows_close(&r);
  mem_free(ids);
  return st;
}

status learned_labels(int32_t **out, comm *c, dataset *d, const split *sp, const classifier *k,
                      const objective *goal, bool has_soft) {
  status st = STATUS_OK;
  const array *a = label_array(sp);
  if (!goal->needs_labels) return STATUS_OK;
  TRY(comm_agree(c, mem_new(out, (size_t)sp->n, sizeof **out)));
  if (!a && !has_soft)
    THROW(STATUS_BAD_INPUT, "%s: /%s has no array 'label' to learn from", dataset_path(d), sp->name);
  for (int64_t i = 0; !a && i < sp->n; i++) (*out)[i] = -1;
  if (a) TRY(read_labels(*out, c, d, sp, a));
  TRY(check_labels(*out, d, sp, k, goal, has_soft));
done:
  return st;
}
