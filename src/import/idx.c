/* IDX, the format of the MNIST files: two zero bytes, a type, the number of dimensions, the dimensions (32
 * bit), the numbers; all big-endian. */
#include "import/importers.h"
#include "import/pairs.h"

static const char *const types[256] = {
    [0x08] = "u1", [0x09] = "i1", [0x0b] = "i2", [0x0c] = "i4", [0x0d] = "f4", [0x0e] = "f8"};

/* One dimension is left free: images get their channel. */
enum { RANK_MAX = ARRAY_MAX_RANK - 1 };

static status header(input *in, pair_array *a) {
  status st = STATUS_OK;
  unsigned char magic[4], size[4];
  TRY(input_exactly(in, magic, sizeof magic, "the IDX header"));
  if (magic[0] || magic[1] || !types[magic[2]])
    THROW(STATUS_BAD_INPUT,
          "%s: is not an IDX file: it begins with %02x %02x %02x %02x, expected 00 00, a type (08, 09, 0b to "
          "0e) and the number "
          "of dimensions",
          input_path(in), magic[0], magic[1], magic[2], magic[3]);
  if (magic[3] < 1 || magic[3] > RANK_MAX)
    THROW(STATUS_BAD_INPUT, "%s: has %d dimensions, expected 1 to %d", input_path(in), magic[3], RANK_MAX);
  *a = (pair_array){.kind = number_find(types[magic[2]]), .big_endian = true, .rank = magic[3]};
  for (int i = 0; i < a->rank; i++) {
    TRY(input_exactly(in, size, sizeof size, "the IDX header"));
    a->dims[i] = (int64_t)size[0] << 24 | size[1] << 16 | size[2] << 8 | size[3];
  }
done:
  return st;
}

static status run(const import_job *job) {
  return pairs_import(job, &(pair_format){.header = header, .images = true});
}

const importer importer_idx = {
    .name = "idx",
    .help = "IDX files as of MNIST, plain or gzip: SPLIT=IMAGES[,LABELS]; images become image [n, 1, H, W] "
            "with the scale 1/255",
    .run = run,
};
