#include "ops/ml.h"

#include <string.h>

bool ml_gives_probabilities(const node *n, int i) {
  const char *transform = node_string(n, "post_transform", "NONE");
  bool ends_in_one = strcmp(transform, "LOGISTIC") == 0 || strncmp(transform, "SOFTMAX", 7) == 0;
  if (i != 1 || strcmp(n->op->domain, ML_DOMAIN) != 0) return false;
  if (strcmp(n->op->name, "SVMClassifier") == 0)
    return node_attribute(n, "prob_a") && strcmp(transform, "NONE") == 0;
  return ends_in_one &&
         (strcmp(n->op->name, "TreeEnsembleClassifier") == 0 || strcmp(n->op->name, "LinearClassifier") == 0);
}

const attribute *ml_class_names(const node *n) {
  static const char *const names[] = {"classlabels_int64s", "classlabels_ints", "classlabels_strings"};
  if (strcmp(n->op->domain, ML_DOMAIN) != 0) return NULL;
  for (int i = 0; i < 3; i++) {
    const attribute *a = node_attribute(n, names[i]);
    if (a && (a->type == ATTRIBUTE_INTS || a->type == ATTRIBUTE_STRINGS) && a->n) return a;
  }
  return NULL;
}
