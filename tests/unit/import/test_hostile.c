/* Files that are not what they should be: each is refused with a message that says where, and nothing is left
 * behind. */
#include "importing.h"

#include "import/csv_reader.h"

#include <math.h>
#include <zlib.h>

#define PUT(path, text) put_file(path, text, sizeof text - 1)

/* An IDX file of bytes: dims big-endian, then n zero bytes. */
static void put_idx(const char *path, int type, int rank, const uint32_t *dims, size_t n) {
  unsigned char *bytes = calloc(4 + 4 * (size_t)rank + n, 1);
  assert_non_null(bytes);
  bytes[2] = (unsigned char)type;
  bytes[3] = (unsigned char)rank;
  for (int i = 0; i < rank; i++)
    for (int k = 0; k < 4; k++) bytes[4 + 4 * i + k] = (unsigned char)(dims[i] >> (24 - 8 * k));
  put_file(path, bytes, 4 + 4 * (size_t)rank + n);
  free(bytes);
}

static void put_gzip(const char *path, size_t content, size_t kept) {
  unsigned char *text = malloc(content), *packed;
  size_t n;
  assert_non_null(text);
  for (size_t i = 0; i < content; i++) text[i] = (unsigned char)(i * i * 2654435761u >> 13);
  memcpy(text, "\0\0\x08\x01\0\0", 6);
  text[6] = (unsigned char)((content - 8) >> 8);
  text[7] = (unsigned char)(content - 8);
  gzFile f = gzopen(path, "wb");
  assert_int_equal(gzwrite(f, text, (unsigned)content), content);
  assert_int_equal(gzclose(f), Z_OK);
  assert_int_equal(file_read(path, &packed, &n), STATUS_OK);
  assert_true(n > kept);
  if (kept) put_file(path, packed, kept);
  mem_free(packed);
  free(text);
}

static void put_npy(const char *path, const char *header, size_t n) {
  size_t length = strlen(header);
  unsigned char *bytes = calloc(10 + length + n, 1);
  assert_non_null(bytes);
  memcpy(bytes, "\x93NUMPY\x01\x00", 8);
  bytes[8] = (unsigned char)length;
  bytes[9] = (unsigned char)(length >> 8);
  memcpy(bytes + 10, header, length);
  put_file(path, bytes, 10 + length + n);
  free(bytes);
}

static void refuse_npy(const char *header, const char *text) {
  put_npy("h.npy", header, 16);
  assert_refused("npy train=h.npy", "h.npy", text);
}

static void refuse_csv(const char *content, const char *options, const char *text) {
  char line[256];
  put_text("h.csv", content);
  snprintf(line, sizeof line, "csv %s train=h.csv", options);
  assert_refused(line, "h.csv", text);
}

static void test_sources_and_options(void **state) {
  (void)state;
  put_text("a.csv", "x\n1\n");
  assert_refused("idx", "nothing to import");
  assert_refused("parquet train=a.csv", "no format 'parquet'", "idx, cifar, csv, npy");
  assert_refused("csv a.csv", "'a.csv' is not a source", "SPLIT=FILE");
  assert_refused("csv =a.csv", "not a source");
  assert_refused("csv a/b=a.csv", "not a source");
  assert_refused("csv classes=a.csv", "not a source");
  assert_refused("csv train=", "empty file name");
  assert_refused("csv train=a.csv,,a.csv", "empty file name");
  assert_refused("csv train=a.csv train=a.csv", "'train' is given twice");
  assert_refused("csv train=a.csv test=missing.csv", "missing.csv: there is no such file");
  assert_refused("csv train=.", "is a folder");
  assert_refused("idx --categorical train=a.csv", "--categorical does not belong to the format 'idx'");
  assert_refused("npy --label-column=y train=a.csv", "--label-column does not belong");
  assert_refused("idx train=a.csv,a.csv,a.csv", "3 files");
}

static void test_empty_and_short_files(void **state) {
  (void)state;
  static const char *const formats[] = {"idx", "cifar", "csv", "npy"};
  char line[64];
  for (size_t i = 0; i < 4; i++) {
    PUT("empty", "");
    snprintf(line, sizeof line, "%s train=empty", formats[i]);
    assert_refused(line, "empty: ");
    PUT("empty", "\x1f\x8b");
    assert_refused(line, "empty: ");
    PUT("empty", "\n");
    assert_refused(line, "empty: ");
  }
}

static void test_idx_headers(void **state) {
  (void)state;
  PUT("h", "\0\0\x08\x03\0\0");
  assert_refused("idx train=h", "h: ends at byte 6, in the middle of the IDX header");
  PUT("h", "\x89PNG\r\n\x1a\n");
  assert_refused("idx train=h", "is not an IDX file", "89 50 4e 47");
  put_idx("h", 0x0a, 1, (uint32_t[]){1}, 1);
  assert_refused("idx train=h", "is not an IDX file");
  put_idx("h", 8, 0, NULL, 9);
  assert_refused("idx train=h", "0 dimensions");
  put_idx("h", 8, 200, (uint32_t[200]){0}, 9);
  assert_refused("idx train=h", "200 dimensions");
  put_idx("h", 8, 3, (uint32_t[]){0, 28, 28}, 0);
  assert_refused("idx train=h", "has no rows");
  put_idx("h", 8, 3, (uint32_t[]){5, 0, 28}, 0);
  assert_refused("idx train=h", "dimension 1 is 0");
  put_idx("h", 14, 7, (uint32_t[]){~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u}, 99);
  assert_refused("idx train=h", "larger than 1 GiB");
  put_idx("h", 8, 3, (uint32_t[]){~0u, 1000, 1000}, 99);
  assert_refused("idx train=h", "truncated");
  put_idx("h", 8, 3, (uint32_t[]){2, 2, 2}, 7);
  assert_refused("idx train=h", "has 23 bytes", "should have 24: the file is truncated");
  put_idx("h", 8, 3, (uint32_t[]){2, 2, 2}, 9);
  assert_refused("idx train=h", "damaged");
}

static void test_inputs_and_labels_belong_together(void **state) {
  (void)state;
  put_idx("x", 8, 3, (uint32_t[]){4, 2, 2}, 16);
  put_idx("y", 8, 1, (uint32_t[]){3}, 3);
  assert_refused("idx train=x,y", "x has 4 rows, y has 3", "split 'train'");
  put_idx("y", 8, 1, (uint32_t[]){4}, 4);
  assert_refused("idx train=y,x", "the inputs come first, then the labels");
  put_idx("z", 8, 3, (uint32_t[]){4, 2, 3}, 24);
  assert_refused("idx train=x test=z", "z: split 'test'", "1x2x3", "1x2x2");
  put_npy("y.npy", "{'descr': '<i4', 'fortran_order': False, 'shape': (4,)}", 16);
  put_npy("x.npy", "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 1)}", 16);
  assert_int_equal(import_line("npy train=x.npy,y.npy", "fine.h5"), STATUS_OK);
}

static void test_gzip(void **state) {
  (void)state;
  put_gzip("h.gz", 20000, 0);
  assert_int_equal(import_line("idx train=h.gz", "gz.h5"), STATUS_OK);
  put_gzip("h.gz", 20000, 12000);
  assert_refused("idx train=h.gz", "h.gz: its gzip data stops early", "truncated");
  put_gzip("h.gz", 20000, 10);
  assert_refused("idx train=h.gz", "h.gz: its gzip data stops early");
  assert_refused("cifar train=h.gz", "h.gz: its gzip data stops early");
  put_gzip("h.gz", 20000, 0);
  FILE *f = fopen("h.gz", "r+b");
  assert_non_null(f);
  assert_int_equal(fseek(f, 9000, SEEK_SET), 0);
  for (int i = 0; i < 64; i++) fputc(0xff, f);
  fclose(f);
  assert_refused("idx train=h.gz", "h.gz: its gzip data is damaged");
}

static void test_gzip_that_promises_more_than_it_has(void **state) {
  (void)state;
  gzFile f = gzopen("h.gz", "wb");
  static const unsigned char head[] = {0, 0, 8, 3, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x10, 0, 0, 0, 0x10, 0};
  assert_int_equal(gzwrite(f, head, sizeof head), sizeof head);
  assert_int_equal(gzclose(f), Z_OK);
  assert_refused("idx train=h.gz", "h.gz: ends at byte 16, in the middle of its rows");
  f = gzopen("h.gz", "wb");
  static const unsigned char row[] = {0, 0, 8, 3, 0, 0, 0, 4, 0, 1, 0, 0, 0, 0, 0x40, 0};
  assert_int_equal(gzwrite(f, row, sizeof row), sizeof row);
  assert_int_equal(gzclose(f), Z_OK);
  assert_refused("idx train=h.gz", "h.gz: its header tells of rows of 1073741824 bytes", "unpack it first");
}

static void test_labels_out_of_range(void **state) {
  (void)state;
  put_npy("x.npy", "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)}", 16);
  const char *header = "{'descr': '<i8', 'fortran_order': False, 'shape': (2,)}";
  const int64_t bad[] = {-2, (int64_t)1 << 31, INT64_MIN, INT64_MAX};
  for (size_t i = 0; i < 4; i++) {
    put_npy("y.npy", header, 0);
    FILE *f = fopen("y.npy", "ab");
    fwrite((int64_t[]){7, bad[i]}, 8, 2, f);
    fclose(f);
    assert_refused("npy train=x.npy,y.npy", "y.npy: row 1", "is not a label");
  }
  put_npy("y.npy", header, 0);
  FILE *f = fopen("y.npy", "ab");
  fwrite((int64_t[]){-1, INT32_MAX}, 8, 2, f);
  fclose(f);
  assert_int_equal(import_line("npy train=x.npy,y.npy", "range.h5"), STATUS_OK);
}

static void test_numbers_that_cannot_be_stored(void **state) {
  (void)state;
  const double bad[] = {NAN, INFINITY, -INFINITY, 1e39, -3.5e38};
  for (size_t i = 0; i < 5; i++) {
    put_npy("x.npy", "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2)}", 0);
    FILE *f = fopen("x.npy", "ab");
    fwrite((double[]){0, 1, 3.4e38, bad[i]}, 8, 4, f);
    fclose(f);
    assert_refused("npy train=x.npy", "x.npy: row 1, value 1");
  }
}

static void test_npy_headers(void **state) {
  (void)state;
  PUT("h.npy", "PK\x03\x04 an archive");
  assert_refused("npy train=h.npy", "is not an npy file");
  PUT("h.npy", "\x93NUMPY\x09\x00xxxxxx");
  assert_refused("npy train=h.npy", "version 9.0");
  PUT("h.npy", "\x93NUMPY\x02\x00\xff\xff\xff\xff{");
  assert_refused("npy train=h.npy", "4294967295 bytes long");
  PUT("h.npy", "\x93NUMPY\x01\x00\x10\x00{'descr'");
  assert_refused("npy train=h.npy", "in the middle of the npy header");
  refuse_npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2)}", "np.ascontiguousarray");
  refuse_npy("{'descr': '|O', 'fortran_order': False, 'shape': (2, 2)}", "Python objects");
  refuse_npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,)}", "named fields");
  refuse_npy("{'descr': '<c8', 'fortran_order': False, 'shape': (2,)}", "type '<c8'");
  refuse_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-4, 1)}", "cannot be understood");
  refuse_npy("{'descr': '<f4', 'fortran_order': False, 'shape': ()}", "single number");
  refuse_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4)}", "no rows");
  refuse_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 0)}", "dimension 1 is 0");
  refuse_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,4)}",
             "more than 8 dimensions");
  refuse_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 4)}",
             "cannot be understood");
  refuse_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 1)}", "damaged");
  refuse_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 4611686018427387904, 4)}",
             "larger than 1 GiB");
  refuse_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (5,)}", "truncated");
  refuse_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", "damaged");
  refuse_npy("{'descr': '<f4', 'fortran_order': False}", "cannot be understood");
  refuse_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4,", "cannot be understood");
  refuse_npy("{'descr': '<f4", "cannot be understood");
  refuse_npy("{'descr': '', 'fortran_order': False, 'shape': (4,)}", "type ''");
  refuse_npy("{{{{{{{{{{", "cannot be understood");
  refuse_npy("", "cannot be understood");
}

static void test_cifar(void **state) {
  (void)state;
  char *bytes = calloc(2 * 3074, 1);
  put_file("c", bytes, 3072);
  assert_refused("cifar train=c", "c: has 3072 bytes", "3073", "3074");
  put_file("ten", bytes, 2 * 3073);
  put_file("hundred", bytes, 2 * 3074);
  assert_refused("cifar train=ten,hundred", "hundred: is of CIFAR-100, the files before it of CIFAR-10");
  bytes[3073] = 10;
  put_file("c", bytes, 2 * 3073);
  assert_refused("cifar train=c", "c: row 1", "label is 10", "10 classes");
  free(bytes);
}

static void test_csv_structure(void **state) {
  (void)state;
  refuse_csv("x,y\n", "", "no rows");
  refuse_csv("1,2\n3,4\n", "", "first line holds numbers");
  refuse_csv(",y\n1,2\n", "", "column 1 has no name");
  refuse_csv("x,x\n1,2\n", "", "two columns have the name 'x'");
  refuse_csv("x,y\n1,2\n1\n", "", "line 3 has 1 fields, expected 2");
  refuse_csv("x,y\n1,2\n1,2,3\n", "", "line 3 has 3 fields, expected 2");
  refuse_csv("x,y\n\"1\n\n\",2\n1,2,3\n", "--categorical", "line 5 has 3 fields");
  refuse_csv("x,y\n1,2\n1,\"2\n3,4\n", "", "line 3: the quoted field that begins here is not closed");
  refuse_csv("x,y\n1,\"2\"3\n", "", "line 2, field 2: text after the closing quote");
  refuse_csv("x;y\n1;2\n", "--label-column=y", "single column");
  refuse_csv("x,class\n1,2\n", "--label-column=clas", "is 'class' meant?");
  put_file("h.csv", "x,y\n1,2\n3,\0004\n", 14);
  assert_refused("csv train=h.csv", "line 3", "NUL byte");
}

static void test_csv_values(void **state) {
  (void)state;
  refuse_csv("x,y\n1,2\n3,abc\n", "", "line 3, column 'y': 'abc' is not a number");
  refuse_csv("x,y\n1,2\n3,0x10\n", "", "'0x10' is not a number");
  refuse_csv("x,y\n1,2\n3,inf\n", "", "'inf' is not a number");
  refuse_csv("x,y\n1,2\n3,1e39\n", "", "'1e39' is too large");
  refuse_csv("x,y\n1,2\n3,\n", "", "line 3, column 'y': '' is a missing value");
  refuse_csv("x,y\n1,2\nNaN,4\n", "--categorical", "line 3, column 'x': 'NaN' is a missing value");
  refuse_csv("x,y\n1,2\n3,\n", "--label-column=y", "missing label");
  refuse_csv("x,y\n1,2\n3,1.5\n", "--label-column=y", "line 3, column 'y': '1.5' is not a label");
  refuse_csv("x,y\n1,2\n3,-2\n", "--label-column=y", "'-2' is not a label");
  refuse_csv("x,y\n1,2\n3,2147483648\n", "--label-column=y", "'2147483648' is not a label");
}

static void test_csv_splits_agree(void **state) {
  (void)state;
  put_text("a.csv", "x,y\n1,red\n2,blue\n");
  put_text("b.csv", "x,y\n1,green\n");
  put_text("c.csv", "y,x\n1,red\n");
  put_text("d.csv", "x,y,z\n1,red,2\n");
  put_text("e.csv", "x,y\none,red\n");
  assert_refused("csv --categorical train=a.csv test=b.csv", "b.csv: line 2, column 'y': 'green'",
                 "first split");
  assert_refused("csv --categorical train=a.csv test=c.csv", "c.csv: column 1 is 'y'", "it is 'x'");
  assert_refused("csv --categorical train=a.csv test=d.csv", "d.csv: has 3 columns, the first file has 2");
  assert_refused("csv --categorical train=a.csv test=e.csv", "e.csv: line 2, column 'x': 'one'");
  assert_int_equal(import_line("csv --categorical train=a.csv test=a.csv", "fine-csv.h5"), STATUS_OK);
}

/* An opening quote that is never closed, in a file larger than the longest record. */
static void test_csv_endless_record(void **state) {
  (void)state;
  const size_t n = (size_t)CSV_RECORD_BYTES + (2 << 20);
  char *bytes = malloc(n);
  assert_non_null(bytes);
  memset(bytes, 'a', n);
  memcpy(bytes, "x,y\n1,\"", 7);
  for (size_t i = 100; i < n; i += 100) bytes[i] = '\n';
  put_file("h.csv", bytes, n);
  free(bytes);
  assert_refused("csv --categorical train=h.csv", "record that begins in line 2 is longer than 64 MiB",
                 "closing quote");
  unlink("h.csv");
}

/* Cut anywhere, a file is refused or (CSV, at the end of a line) imported; never a crash. */
static void test_every_cut_of_a_file(void **state) {
  (void)state;
  static const char csv[] = "\xef\xbb\xbfname,\"v,w\",y\r\n\"a \"\"b\"\"\",1.5,2\r\n\"c\nd\",-2e3,0\r\n";
  for (size_t n = 0; n < sizeof csv; n++) {
    put_file("cut.csv", csv, n);
    status st =
        import_line("csv --force --categorical --standardize --label-column=y train=cut.csv", "cut.h5");
    assert_true(st == STATUS_OK || st == STATUS_BAD_INPUT);
  }
  put_npy("cut.npy", "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 1)}", 16);
  unsigned char *bytes;
  size_t size;
  assert_int_equal(file_read("cut.npy", &bytes, &size), STATUS_OK);
  for (size_t n = 0; n < size; n++) {
    put_file("cut.npy", bytes, n);
    assert_refused("npy train=cut.npy", "cut.npy: ");
  }
  mem_free(bytes);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_sources_and_options),
      cmocka_unit_test(test_empty_and_short_files),
      cmocka_unit_test(test_idx_headers),
      cmocka_unit_test(test_inputs_and_labels_belong_together),
      cmocka_unit_test(test_gzip),
      cmocka_unit_test(test_gzip_that_promises_more_than_it_has),
      cmocka_unit_test(test_labels_out_of_range),
      cmocka_unit_test(test_numbers_that_cannot_be_stored),
      cmocka_unit_test(test_npy_headers),
      cmocka_unit_test(test_cifar),
      cmocka_unit_test(test_csv_structure),
      cmocka_unit_test(test_csv_values),
      cmocka_unit_test(test_csv_splits_agree),
      cmocka_unit_test(test_csv_endless_record),
      cmocka_unit_test(test_every_cut_of_a_file),
  };
  return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
