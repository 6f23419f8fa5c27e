/* Loops for several processors in one program. */
#ifndef MPISTILL_BASE_PROCESSOR_H
#define MPISTILL_BASE_PROCESSOR_H

/* Before a function of loops over numbers: compiled for AVX2 as well, chosen when the program is loaded. Both
 * have the same bits, as no operation is fused or reordered (-ffp-contract=off). Not with clang, whose
 * resolvers for functions of one name in two files clash. */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

#endif
