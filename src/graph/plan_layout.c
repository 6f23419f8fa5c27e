/* Convolutions are fastest on arrays whose channels stand in blocks, and turning arrays around costs as much
 * as many a layer. So a value that only steps which can do with blocks write and read lies in blocks; all
 * others, and what the caller sees, are row-major. Where a region of such values begins and ends a step with
 * free sides (a convolution) reads one and writes the other. */
#include "base/mem.h"
#include "graph/plan_private.h"

typedef struct regions {
  plan *p;
  block_use *uses; /* [n_steps] */
  bool *open;      /* [n_values] is to be in blocks */
  int64_t size;
} regions;

static status ask_steps(regions *r) {
  status st = STATUS_OK;
  for (int i = r->p->n_settled; i < r->p->n_steps; i++) {
    const step *s = &r->p->steps[i];
    block_use *use = &r->uses[i];
    if (s->op->blocks && !step_is_empty(s)) TRY(s->op->blocks(s, use));
    if (use->size > r->size) r->size = use->size;
  }
done:
  return st;
}

/* Value v as output of a step. In training no places are left over: a gradient there need not be zero. */
static bool can_be_open(const regions *r, int v, const block_use *maker) {
  const plan_value *value = &r->p->values[v];
  const shape *s = &value->data.shape;
  if (!(maker->may & BLOCKS_OUT) || value->held || value->known || value->data.type != DTYPE_FLOAT ||
      s->rank < 3 || s->rank > 5)
    return false;
  return s->dims[1] % r->size == 0 || (maker->keeps_zero && !r->p->options.training);
}

/* Whether the step can read value v, its input `input`, in blocks. */
static bool reads_blocks(const regions *r, const block_use *use, int input, int v) {
  return input < 16 && use->may >> input & 1 &&
         (use->keeps_zero || r->p->values[v].data.shape.dims[1] % r->size == 0);
}

static void open_values(regions *r) {
  for (int i = r->p->n_settled; i < r->p->n_steps; i++) {
    const step *s = &r->p->steps[i];
    if (s->out[0]) r->open[s->node->outputs[0]] = can_be_open(r, s->node->outputs[0], &r->uses[i]);
  }
  for (int i = r->p->n_settled; i < r->p->n_steps; i++) {
    const step *s = &r->p->steps[i];
    for (int j = 0; j < s->n_in; j++)
      if (s->in[j] && r->open[s->node->inputs[j]] && !reads_blocks(r, &r->uses[i], j, s->node->inputs[j]))
        r->open[s->node->inputs[j]] = false;
  }
}

/* Whether one of the values that are to be alike is closed; close: all of them are. */
static bool visit_alike(regions *r, int i, bool close) {
  const step *s = &r->p->steps[i];
  bool any_closed = false;
  for (int j = 0; j <= s->n_in && j <= 16; j++) {
    const bool is_out = j == s->n_in;
    if (!(r->uses[i].alike & (is_out ? (uint32_t)BLOCKS_OUT : 1u << j))) continue;
    const int v = is_out ? s->node->outputs[0] : s->node->inputs[j];
    any_closed |= !r->open[v];
    if (close) r->open[v] = false;
  }
  return any_closed;
}

static bool is_any_open(const regions *r, int i) {
  const step *s = &r->p->steps[i];
  bool any = r->uses[i].alike & BLOCKS_OUT && r->open[s->node->outputs[0]];
  for (int j = 0; j < s->n_in && j < 16; j++) any |= r->uses[i].alike >> j & 1 && r->open[s->node->inputs[j]];
  return any;
}

static void close_values(regions *r) {
  for (bool changed = true; changed;) {
    changed = false;
    for (int i = r->p->n_settled; i < r->p->n_steps; i++) {
      if (!is_any_open(r, i) || !visit_alike(r, i, false)) continue;
      visit_alike(r, i, true);
      changed = true;
    }
  }
}

status plan_layout(plan *p) {
  status st = STATUS_OK;
  regions r = {.p = p};
  if (p->options.reference) return STATUS_OK;
  TRY(mem_new(&r.uses, (size_t)p->n_steps, sizeof *r.uses));
  TRY(mem_new(&r.open, (size_t)p->graph->n_values, sizeof *r.open));
  TRY(ask_steps(&r));
  if (!r.size) goto done;
  open_values(&r);
  close_values(&r);
  for (int v = 0; v < p->graph->n_values; v++)
    if (r.open[v]) p->values[v].data.block = r.size;
done:
  mem_free(r.uses);
  mem_free(r.open);
  return st;
}
