/* The walk over a file's bytes before protobuf-c sees them. */
#include "onnx/wire.h"

#include "base/mem.h"
#include "onnx/proto.h"

static status scan(const wire *w) {
  return proto_scan("m.onnx", &onnx__model_proto__descriptor, w->bytes, w->n);
}

static void refused(wire *w, const char *why) {
  assert_int_equal(scan(w), STATUS_BAD_INPUT);
  assert_non_null(strstr(status_message(), "m.onnx: is damaged or not an ONNX file: byte "));
  assert_non_null(strstr(status_message(), why));
  wire_free(w);
}

static void test_empty_and_unknown_fields_pass(void **state) {
  (void)state;
  wire w = {0};
  wire_int(&w, 1, 8);
  wire_text(&w, 777, "a field of the future");
  assert_int_equal(scan(&w), STATUS_OK);
  assert_int_equal(proto_scan("m.onnx", &onnx__model_proto__descriptor, w.bytes, 0), STATUS_OK);
  wire_free(&w);
}

static void test_every_cut_of_a_message_is_seen(void **state) {
  (void)state;
  wire graph = {0}, w = {0};
  wire_text(&graph, 2, "a name");
  wire_message(&w, 7, &graph);
  assert_int_equal(scan(&w), STATUS_OK);
  for (size_t n = 1; n < w.n; n++)
    assert_int_equal(proto_scan("m.onnx", &onnx__model_proto__descriptor, w.bytes, n), STATUS_BAD_INPUT);
  wire_free(&w);
}

static void test_lengths_stay_inside_their_parent(void **state) {
  (void)state;
  wire w = {0};
  wire_add(&w, "\x3a\x04\x12\x06", 4); /* a graph of 4 bytes, in it a name of 6 */
  wire_add(&w, "abcdef", 6);
  refused(&w, "in GraphProto: a field is longer than what holds it");
  wire_add(&w, "\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11);
  refused(&w, "a field is longer than what holds it");
}

static void test_bad_tags(void **state) {
  (void)state;
  wire w = {0};
  wire_add(&w, "\x00\x01", 2); /* field 0 */
  refused(&w, "no field begins here");
  wire_add(&w, "\x0b", 1); /* group */
  refused(&w, "no field begins here");
  wire_add(&w, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12);
  refused(&w, "a number without end");
  wire_add(&w, "\x38\x01", 2); /* the graph as a number */
  refused(&w, "a number where a message belongs");
}

static void test_a_message_given_twice(void **state) {
  (void)state;
  wire w = {0}, graph = {0};
  wire_text(&graph, 2, "g");
  wire_bytes(&w, 7, graph.bytes, graph.n);
  wire_message(&w, 7, &graph);
  refused(&w, "a field is given twice");
}

/* Graphs within attributes of nodes of graphs. */
static wire nested(int levels) {
  wire graph = wire_nest(levels, (int[]){6, 5, 1}, 3), w = {0};
  wire_message(&w, 7, &graph);
  return w;
}

static void test_nesting(void **state) {
  (void)state;
  wire w = nested(20); /* 2 + 3 x 20 = 62 messages deep */
  assert_int_equal(scan(&w), STATUS_OK);
  wire_free(&w);
  w = nested(21);
  refused(&w, "nested more than 64 deep");
  w = nested(10000);
  refused(&w, "nested more than 64 deep");
}

static void test_types_within_types(void **state) {
  (void)state;
  wire type = wire_nest(10000, (int[]){1, 4}, 2), info = {0}, graph = {0}, w = {0};
  wire_message(&info, 2, &type);
  wire_message(&graph, 11, &info);
  wire_message(&w, 7, &graph);
  refused(&w, "nested more than 64 deep");
}

/* Two bytes a tensor become more than 200 in memory. */
static void test_memory_is_bounded_by_the_size(void **state) {
  (void)state;
  wire graph = {0}, w = {0};
  size_t n = 2000000;
  graph.bytes = malloc(2 * n);
  assert_non_null(graph.bytes);
  graph.n = 2 * n;
  for (size_t i = 0; i < n; i++) memcpy(graph.bytes + 2 * i, "\x2a\x00", 2);
  wire_message(&w, 7, &graph);
  refused(&w, "more fields than a file of this size can need");
}

static void test_unpack_gives_the_same_bytes_back(void **state) {
  (void)state;
  wire graph = {0}, w = {0};
  wire_int(&w, 1, 8);
  wire_text(&graph, 2, "g");
  wire_message(&w, 7, &graph);
  wire_text(&w, 777, "kept");
  Onnx__ModelProto *m;
  unsigned char *bytes;
  size_t n;
  assert_int_equal(proto_unpack(&m, "m.onnx", &onnx__model_proto__descriptor, w.bytes, w.n), STATUS_OK);
  assert_string_equal(m->graph->name, "g");
  assert_int_equal(proto_pack(m, &bytes, &n), STATUS_OK);
  assert_int_equal(n, w.n);
  assert_memory_equal(bytes, w.bytes, n);
  mem_free(bytes);
  proto_free(m);
  wire_free(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_empty_and_unknown_fields_pass),
      cmocka_unit_test(test_every_cut_of_a_message_is_seen),
      cmocka_unit_test(test_lengths_stay_inside_their_parent),
      cmocka_unit_test(test_bad_tags),
      cmocka_unit_test(test_a_message_given_twice),
      cmocka_unit_test(test_nesting),
      cmocka_unit_test(test_types_within_types),
      cmocka_unit_test(test_memory_is_bounded_by_the_size),
      cmocka_unit_test(test_unpack_gives_the_same_bytes_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
