#include "learn/features.h"

#include <string.h>

static const feature_kind *const kinds[] = {
    &feature_hint, &feature_attention, &feature_similarity,     &feature_rkd,      &feature_pkt, &feature_nst,
    &feature_vid,  &feature_gram,      &feature_attention_maps, &feature_relation, NULL};

const feature_kind *const *feature_kinds(void) {
  return kinds;
}

const feature_kind *feature_find(const char *name) {
  for (const feature_kind *const *k = kinds; *k; k++)
    if (!strcmp((*k)->name, name)) return *k;
  return NULL;
}

bool feature_reads(const feature_kind *k, const char *key) {
  static const char *const all[] = {"kind", "weight", "student", "teacher", "from", "layers"};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    if (!strcmp(all[i], key)) return true;
  for (const char *const *o = k->options; o && *o; o++)
    if (!strcmp(*o, key)) return true;
  return false;
}

feature_map feature_map_of(const shape *s) {
  feature_map m = {.shape = *s, .positions = 1, .row_values = shape_span(s, 1, s->rank)};
  const bool last = s->rank <= 3;
  m.channels = s->dims[last ? s->rank - 1 : 1];
  if (m.channels) m.positions = m.row_values / m.channels;
  m.channel_stride = last ? 1 : m.positions;
  m.position_stride = last ? m.channels : 1;
  return m;
}

status feature_same_positions(const char *kind, const feature_map *student, const feature_map *teacher) {
  if (student->positions != teacher->positions)
    return status_set(STATUS_BAD_INPUT, "'%s' compares position by position, and there are %lld and %lld",
                      kind, (long long)student->positions, (long long)teacher->positions);
  if (student->positions > 1) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT, "'%s' compares positions, and a row has only one", kind);
}

status feature_same_channels(const char *kind, const feature_map *student, const feature_map *teacher) {
  if (student->channels == teacher->channels) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT, "'%s' compares channel by channel, and there are %lld and %lld", kind,
                    (long long)student->channels, (long long)teacher->channels);
}
