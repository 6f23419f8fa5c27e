/* Newton's method on the masses of blocks, in logarithms.
 *
 * The second derivative of sum_k w_k KL(p_k || s_k) is that of an electric circuit: a wire of conductance
 * w_k s_k(B) from teacher k to each block of its list. Where teachers share only improbable classes, wires
 * that decide differ from the others by more than the digits of a double. So the circuit is solved as one:
 * nodes are taken out by their star-mesh transformation, in which conductances are only added, multiplied and
 * divided (Grassmann, Taksar, Heyman 1985), and what drives the currents stays with the wires, where it
 * cancels within a strong part before it meets a weak one. */
#include "learn/union_fit.h"

#include "base/mem.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

enum { MAX_STEPS = 100, MAX_HALVINGS = 60, MAX_DIRECTIONS = 300 };
static const double ENOUGH = 1e-10;   /* a step that moves no logarithm further is the last */
static const double NOISE = 1e-12;    /* of the divergence, relative; its square where that is all there is */
static const double WEAKEST = 1e-290; /* conductance: no list falls apart */
static const double GONE = -50;       /* relative to the largest */
/* With classes for all others, of probabilities: directions that curve less than a double shows are left. */
static const double BALANCED = 1e-10;
static const double NEAR = 1; /* Newton's steps this short converge quadratically */
static const double FIRST_POWER = 1.0 / 256, LARGEST_RATIO = 1.5, LEAST_RATIO = 1.002;

typedef struct union_room {
  int *first_of_block, *of_block; /* pairs of each block */
  double *over;                   /* [n_pairs] log s_k(B) - log p_k(B) */
  double *log_s;                  /* [n_pairs] */
  double *given;                  /* [n_pairs] log_p as the caller has it */
  double *wire, *drive;           /* [n_pairs] conductance, and what it adds from teacher to block */
  double *mesh, *mesh_drive;      /* [n, n] between the nodes of the smaller side; times conductance */
  double *current, *potential;    /* [n] */
  double *step, *other, *trial;   /* [n_blocks] */
  double *kept, *residual, *better, *toward, *curved;
  int n;
  bool any_others;
  bool cautious; /* potentials are for a step that may go too far */
} union_room;

static int smaller(const union_fit *f) {
  return f->n_lists < f->n_blocks ? f->n_lists : f->n_blocks;
}

status union_fit_new(union_fit *f, int n_lists, int n_blocks, int n_pairs) {
  status st = STATUS_OK;
  *f = (union_fit){.n_lists = n_lists, .n_blocks = n_blocks, .n_pairs = n_pairs};
  const size_t lists = (size_t)n_lists, blocks = (size_t)n_blocks, pairs = (size_t)n_pairs,
               n = (size_t)smaller(f);
  TRY(mem_new(&f->first, lists + 1, sizeof *f->first));
  TRY(mem_new(&f->list, pairs, sizeof *f->list));
  TRY(mem_new(&f->block, pairs, sizeof *f->block));
  TRY(mem_new(&f->outside, pairs, sizeof *f->outside));
  TRY(mem_new(&f->weight, lists, sizeof *f->weight));
  TRY(mem_new(&f->log_p, pairs, sizeof *f->log_p));
  TRY(mem_new(&f->v, blocks, sizeof *f->v));
  TRY(mem_new(&f->room, 1, sizeof *f->room));
  union_room *r = f->room;
  r->n = (int)n;
  TRY(mem_new(&r->first_of_block, blocks + 1, sizeof *r->first_of_block));
  TRY(mem_new(&r->of_block, pairs, sizeof *r->of_block));
  double **const by_pair[] = {&r->over, &r->log_s, &r->wire, &r->drive, &r->given};
  for (size_t i = 0; i < sizeof by_pair / sizeof *by_pair; i++)
    TRY(mem_new(by_pair[i], pairs, sizeof(double)));
  double **const by_block[] = {&r->step,     &r->other,  &r->trial,  &r->current, &r->potential,
                               &r->residual, &r->better, &r->toward, &r->curved,  &r->kept};
  for (size_t i = 0; i < sizeof by_block / sizeof *by_block; i++)
    TRY(mem_new(by_block[i], blocks, sizeof(double)));
  TRY(mem_new(&r->mesh, n, n * sizeof *r->mesh));
  TRY(mem_new(&r->mesh_drive, n, n * sizeof *r->mesh_drive));
done:
  return st;
}

void union_fit_free(union_fit *f) {
  union_room *r = f->room;
  if (r) {
    mem_free(r->first_of_block), mem_free(r->of_block), mem_free(r->over), mem_free(r->log_s),
        mem_free(r->given);
    mem_free(r->wire), mem_free(r->drive), mem_free(r->mesh), mem_free(r->mesh_drive);
    mem_free(r->current), mem_free(r->potential), mem_free(r->step), mem_free(r->other), mem_free(r->trial);
    mem_free(r->residual), mem_free(r->better), mem_free(r->toward), mem_free(r->curved), mem_free(r->kept);
  }
  mem_free(r);
  mem_free(f->first), mem_free(f->list), mem_free(f->block), mem_free(f->outside);
  mem_free(f->weight), mem_free(f->log_p), mem_free(f->v);
  *f = (union_fit){0};
}

void union_fit_ready(union_fit *f) {
  union_room *r = f->room;
  for (int i = 0; i < f->n_pairs; i++) r->first_of_block[f->block[i] + 1]++;
  for (int b = 0; b < f->n_blocks; b++) r->first_of_block[b + 1] += r->first_of_block[b];
  for (int i = 0; i < f->n_pairs; i++) r->of_block[r->first_of_block[f->block[i]]++] = i;
  for (int b = f->n_blocks; b > 0; b--) r->first_of_block[b] = r->first_of_block[b - 1];
  r->first_of_block[0] = 0;
  for (int i = 0; i < f->n_pairs; i++) r->any_others = r->any_others || f->outside[i];
}

/* ---- what a step is measured by ---- */

/* log of the sum of exp v over the pairs of a teacher, of those outside or inside or (-1) both. */
static double log_sum(const union_fit *f, int k, const double *v, int outside) {
  double most = -INFINITY, sum = 0;
  for (int i = f->first[k]; i < f->first[k + 1]; i++)
    if (outside < 0 || f->outside[i] == outside) most = fmax(most, v[f->block[i]]);
  if (most == -INFINITY) return most;
  for (int i = f->first[k]; i < f->first[k + 1]; i++)
    if (outside < 0 || f->outside[i] == outside) sum += exp(v[f->block[i]] - most);
  return most + log(sum);
}

/* s - p + p log(p/s) >= 0, with a = log(s/p). */
static double divergence(double log_p, double a) {
  const double p = exp(log_p);
  if (fabs(a) < 0.01) return p * a * a * (0.5 + a * (1.0 / 6 + a * (1.0 / 24 + a / 120)));
  return exp(log_p + a) - p - p * a;
}

/* sum_k w_k KL(p_k || s_k) to a few units of its own last digit. */
static double measure(union_fit *f, const double *v) {
  union_room *r = f->room;
  double sum = 0;
  for (int k = 0; k < f->n_lists; k++) {
    if (f->weight[k] <= 0) continue;
    const double all = log_sum(f, k, v, -1), rest = r->any_others ? log_sum(f, k, v, 1) : 0;
    bool counted = false;
    double mine = 0;
    for (int i = f->first[k]; i < f->first[k + 1]; i++) {
      r->log_s[i] = v[f->block[i]] - all;
      r->over[i] = (f->outside[i] ? rest - all : r->log_s[i]) - f->log_p[i];
      if (!(f->outside[i] && counted)) mine += divergence(f->log_p[i], r->over[i]);
      counted = counted || f->outside[i];
    }
    sum += f->weight[k] * mine;
  }
  return sum;
}

/* ---- the circuit ---- */

/* Joins nodes a and b of the mesh by what a node between them leaves when it is taken out. */
static void join(union_room *r, int a, int b, double wire, double drive) {
  r->mesh[a * r->n + b] += wire;
  r->mesh[b * r->n + a] += wire;
  r->mesh_drive[a * r->n + b] += drive;
  r->mesh_drive[b * r->n + a] -= drive;
}

/* Takes out a node of the larger side. sign: 1 a block, -1 a teacher. */
static void take_out(union_fit *f, const int *pairs, int from, int to, double sign, const int *ends,
                     double current) {
  union_room *r = f->room;
  double all = 0;
  for (int i = from; i < to; i++) all += r->wire[pairs ? pairs[i] : i];
  if (!(all > 0)) return;
  for (int i = from; i < to; i++) {
    const int a = pairs ? pairs[i] : i;
    const double share = r->wire[a] / all;
    r->current[ends[a]] += current * share;
    for (int j = from; j < i; j++) {
      const int b = pairs ? pairs[j] : j;
      const double wire = share * r->wire[b];
      if (wire > 0) join(r, ends[a], ends[b], wire, wire * sign * (r->drive[b] - r->drive[a]));
    }
  }
}

/* What a node is above the mean of its neighbours; Newton's method says too much where it is far. */
static double lead_of(const union_room *r, double lead) {
  if (!r->cautious || !(fabs(lead) > NEAR)) return lead;
  return copysign(NEAR + log(fabs(lead)), lead);
}

/* Potentials of the mesh, that of node 0 (of each part) being 0. */
static void solve_mesh(union_room *r) {
  const int n = r->n;
  for (int i = n - 1; i > 0; i--) {
    const double *wires = r->mesh + i * n, *drives = r->mesh_drive + i * n;
    double all = 0;
    for (int j = 0; j < i; j++) all += wires[j];
    if (!(all > 0)) continue;
    for (int j = 0; j < i; j++) {
      if (!(wires[j] > 0)) continue;
      const double share = wires[j] / all, own = drives[j] / wires[j];
      r->current[j] += r->current[i] * share;
      for (int l = 0; l < j; l++) {
        const double wire = share * wires[l];
        if (wire > 0) join(r, j, l, wire, wire * (drives[l] / wires[l] - own));
      }
    }
  }
  for (int i = 0; i < n; i++) {
    const double *wires = r->mesh + i * n, *drives = r->mesh_drive + i * n;
    double all = 0, sum = 0, lead = 0;
    for (int j = 0; j < i; j++) all += wires[j];
    for (int j = 0; j < i && all > 0; j++) {
      sum += wires[j] / all * r->potential[j];
      lead += drives[j];
    }
    r->potential[i] = all > 0 ? sum + lead_of(r, (lead + r->current[i]) / all) : 0;
  }
}

/* x[n_blocks]: potentials of the blocks where each wire adds its drive, and currents[n_blocks] (NULL: none)
 * flow in. */
static void solve_circuit(union_fit *f, const double *currents, double *x) {
  union_room *r = f->room;
  const bool meshed_lists = f->n_lists < f->n_blocks;
  memset(r->mesh, 0, (size_t)r->n * (size_t)r->n * sizeof *r->mesh);
  memset(r->mesh_drive, 0, (size_t)r->n * (size_t)r->n * sizeof *r->mesh_drive);
  for (int i = 0; i < r->n; i++) r->current[i] = !meshed_lists && currents ? currents[i] : 0;
  if (meshed_lists)
    for (int b = 0; b < f->n_blocks; b++)
      take_out(f, r->of_block, r->first_of_block[b], r->first_of_block[b + 1], 1, f->list,
               currents ? currents[b] : 0);
  else
    for (int k = 0; k < f->n_lists; k++) take_out(f, NULL, f->first[k], f->first[k + 1], -1, f->block, 0);
  solve_mesh(r);
  for (int b = 0; b < f->n_blocks; b++) {
    double all = 0, sum = 0, lead = currents ? currents[b] : 0;
    if (!meshed_lists) {
      x[b] = r->potential[b];
      continue;
    }
    for (int i = r->first_of_block[b]; i < r->first_of_block[b + 1]; i++) all += r->wire[r->of_block[i]];
    for (int i = r->first_of_block[b]; i < r->first_of_block[b + 1]; i++) {
      const int at = r->of_block[i];
      if (all > 0) sum += r->wire[at] / all * r->potential[f->list[at]];
      lead += r->wire[at] * r->drive[at];
    }
    x[b] = all > 0 ? sum + lead_of(r, lead / all) : 0;
  }
}

/* Wires of Newton's step. */
static void wire_newton(union_fit *f) {
  union_room *r = f->room;
  for (int i = 0; i < f->n_pairs; i++) {
    const double w = f->weight[f->list[i]];
    r->wire[i] = w > 0 ? fmax(w * exp(r->log_s[i]), WEAKEST) : 0;
    r->drive[i] = w > 0 ? expm1(fmin(-r->over[i], 600)) : 0;
  }
}

/* Wires by the slope between s and p in place of that at s: the step is the answer at once where teachers do
 * not contradict each other, and goes down always. */
static void wire_secant(union_fit *f) {
  union_room *r = f->room;
  for (int i = 0; i < f->n_pairs; i++) {
    const double w = f->weight[f->list[i]], a = r->over[i], down = -fabs(a);
    const double larger = exp(r->log_s[i] + fmax(-a, 0));
    r->wire[i] = w > 0 ? fmax(w * larger * (down < 0 ? expm1(down) / down : 1), WEAKEST) : 0;
    r->drive[i] = w > 0 ? -a : 0;
  }
}

/* Whether what is said of others alone has left block b without mass: its logarithm has no end. */
static bool is_gone(const union_fit *f, int b) {
  const union_room *r = f->room;
  if (!r->any_others || f->v[b] > GONE) return false;
  for (int i = r->first_of_block[b]; i < r->first_of_block[b + 1]; i++)
    if (!f->outside[r->of_block[i]] && f->weight[f->list[r->of_block[i]]] > 0) return false;
  return true;
}

/* The largest change of a ratio that a teacher speaks of. */
static double reach(const union_fit *f, double *x) {
  for (int b = 0; b < f->n_blocks; b++)
    if (is_gone(f, b)) x[b] = 0;
  double most = 0;
  for (int k = 0; k < f->n_lists; k++) {
    double low = INFINITY, high = -INFINITY;
    for (int i = f->first[k]; i < f->first[k + 1] && f->weight[k] > 0; i++) {
      if (is_gone(f, f->block[i])) continue;
      low = fmin(low, x[f->block[i]]);
      high = fmax(high, x[f->block[i]]);
    }
    if (high - low > most || isnan(high - low)) most = high - low;
  }
  return most;
}

/* ---- classes for all others ---- */

/* y = the second derivative times x; and the residual of Newton's equation. What is said of all others
 * together curves less than the circuit, which shares it out as v has it. */
static void curvature(const union_fit *f, const double *x, double *y) {
  const union_room *r = f->room;
  memset(y, 0, (size_t)f->n_blocks * sizeof *y);
  for (int k = 0; k < f->n_lists; k++) {
    const double w = f->weight[k];
    double mean = 0, rest = 0, beyond = 0, said = 0;
    if (w <= 0) continue;
    for (int i = f->first[k]; i < f->first[k + 1]; i++) {
      const double s = exp(r->log_s[i]);
      mean += s * x[f->block[i]];
      if (!f->outside[i]) continue;
      rest += s;
      beyond += s * x[f->block[i]];
      said = exp(f->log_p[i]);
    }
    if (rest > 0) beyond /= rest;
    for (int i = f->first[k]; i < f->first[k + 1]; i++) {
      const double s = exp(r->log_s[i]), own = x[f->block[i]];
      y[f->block[i]] += w * s * (own - mean);
      if (f->outside[i]) y[f->block[i]] -= w * said * s / rest * (own - beyond);
    }
  }
}

/* The largest difference at a block of what teachers say and have. */
static double imbalance(union_fit *f) {
  union_room *r = f->room;
  double most = 0;
  memset(r->residual, 0, (size_t)f->n_blocks * sizeof *r->residual);
  for (int i = 0; i < f->n_pairs; i++) {
    const double s = exp(r->log_s[i]), p = s * exp(fmin(-r->over[i], 600));
    if (f->weight[f->list[i]] > 0) r->residual[f->block[i]] += f->weight[f->list[i]] * (s - p);
  }
  for (int b = 0; b < f->n_blocks; b++) most = fmax(most, fabs(r->residual[b]));
  return most;
}

static double product(int n, const double *a, const double *b) {
  double sum = 0;
  for (int i = 0; i < n; i++) sum += a[i] * b[i];
  return sum;
}

/* Newton's step from that of the circuit, by conjugate gradients in its measure. */
static void refine(union_fit *f, double *x) {
  union_room *r = f->room;
  const int n = f->n_blocks;
  double before = 0, begun = 0;
  memset(r->residual, 0, (size_t)n * sizeof *r->residual);
  for (int i = 0; i < f->n_pairs; i++)
    r->residual[f->block[i]] += f->weight[f->list[i]] * exp(r->log_s[i]) * r->drive[i];
  begun = product(n, r->residual, x);
  curvature(f, x, r->curved);
  for (int b = 0; b < n; b++) r->residual[b] -= r->curved[b];
  memset(r->drive, 0, (size_t)f->n_pairs * sizeof *r->drive);
  for (int turn = 0; turn < MAX_DIRECTIONS; turn++) {
    solve_circuit(f, r->residual, r->better);
    const double now = product(n, r->residual, r->better);
    if (!(now > 1e-24 * begun)) return;
    for (int b = 0; b < n; b++) r->toward[b] = r->better[b] + (turn ? now / before * r->toward[b] : 0);
    before = now;
    curvature(f, r->toward, r->curved);
    const double bend = product(n, r->toward, r->curved);
    if (!(bend > 0)) return;
    for (int b = 0; b < n; b++) {
      x[b] += now / bend * r->toward[b];
      r->residual[b] -= now / bend * r->curved[b];
    }
  }
}

/* ---- steps ---- */

/* How far along x, starting with that share, the divergence is no larger than it was; 0: nowhere. */
static double go(union_fit *f, const double *x, double share, double from, double *reached) {
  union_room *r = f->room;
  for (int i = 0; i < MAX_HALVINGS; i++, share /= 2) {
    for (int b = 0; b < f->n_blocks; b++) r->trial[b] = f->v[b] + share * x[b];
    *reached = measure(f, r->trial);
    if (*reached <= from * (1 + NOISE) + NOISE * NOISE) return share;
  }
  *reached = INFINITY;
  return 0;
}

static void move(union_fit *f, const double *x, double share) {
  double most = -INFINITY;
  for (int b = 0; b < f->n_blocks; b++) most = fmax(most, f->v[b] += share * x[b]);
  for (int b = 0; b < f->n_blocks && isfinite(most); b++) f->v[b] -= most;
}

/* From f->v. False where that is not near enough. */
static bool descend(union_fit *f) {
  union_room *r = f->room;
  double enough = ENOUGH;
  for (int i = 0; i < f->n_pairs; i++)
    if (f->weight[f->list[i]] > 0) enough = fmax(enough, fabs(f->log_p[i]) * 1e-13);
  for (int step = 0; step < MAX_STEPS; step++) {
    double by_newton, by_secant;
    const double from = measure(f, f->v);
    if (r->any_others && imbalance(f) <= BALANCED) return true;
    wire_newton(f);
    r->cautious = !r->any_others;
    solve_circuit(f, NULL, r->step);
    r->cautious = false;
    if (r->any_others) refine(f, r->step);
    const double far = reach(f, r->step);
    if (far <= enough) {
      move(f, r->step, 1);
      return true;
    }
    double newton = go(f, r->step, r->any_others && far > NEAR ? log1p(far) / far : 1, from, &by_newton);
    if (newton == 1 && far <= NEAR) {
      move(f, r->step, 1);
      continue;
    }
    measure(f, f->v);
    wire_secant(f);
    solve_circuit(f, NULL, r->other);
    const double secant = go(f, r->other, 1, from, &by_secant);
    if (!(newton > 0) && !(secant > 0)) return false;
    /* What decides may be too small to show in the sum; then either has its turn. */
    const bool alike = fabs(by_newton - by_secant) <= NOISE * (from + NOISE);
    const bool take_secant = secant > 0 && (alike ? step % 3 == 0 || !(newton > 0) : by_secant < by_newton);
    move(f, take_secant ? r->other : r->step, take_secant ? (alike ? secant / 2 : secant) : newton);
  }
  return false;
}

/* ---- where teachers contradict each other and are very sure ---- */

/* The teachers' probabilities to the power of `power`. */
static void temper(union_fit *f, double power) {
  union_room *r = f->room;
  for (int k = 0; k < f->n_lists; k++) {
    double most = -INFINITY, sum = 0;
    bool counted = false;
    for (int i = f->first[k]; i < f->first[k + 1]; i++) most = fmax(most, power * r->given[i]);
    for (int i = f->first[k]; i < f->first[k + 1]; i++) {
      if (!(f->outside[i] && counted)) sum += exp(power * r->given[i] - most);
      counted = counted || f->outside[i];
    }
    for (int i = f->first[k]; i < f->first[k + 1]; i++) f->log_p[i] = power * r->given[i] - most - log(sum);
  }
}

/* The result for less sure teachers is near that for somewhat surer ones, in proportion. */
static bool follow(union_fit *f) {
  union_room *r = f->room;
  const size_t blocks = (size_t)f->n_blocks * sizeof *f->v;
  double power = FIRST_POWER, ratio = LARGEST_RATIO;
  memcpy(r->given, f->log_p, (size_t)f->n_pairs * sizeof *f->log_p);
  memset(f->v, 0, blocks);
  temper(f, power);
  if (!descend(f)) return false;
  while (power < 1) {
    const double next = fmin(power * ratio, 1);
    memcpy(r->kept, f->v, blocks);
    for (int b = 0; b < f->n_blocks; b++) f->v[b] *= next / power;
    temper(f, next);
    if (descend(f)) {
      power = next;
      ratio = fmin(ratio * ratio, LARGEST_RATIO);
      continue;
    }
    memcpy(f->v, r->kept, blocks);
    ratio = sqrt(ratio);
    if (ratio < LEAST_RATIO) return false;
  }
  return true;
}

/* The second is for teachers as sure as 1e-40 who contradict each other: some of what decides is then too
 * small to show in the divergence that steps are judged by. */
bool union_fit_solve(union_fit *f) {
  return descend(f) || follow(f);
}
