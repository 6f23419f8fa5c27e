#include "import/csv_reader.h"

#include "base/mem.h"

#include <string.h>

enum { BUFFER_BYTES = 1 << 20 };

typedef enum csv_state {
  AT_START, /* of a field */
  PLAIN,
  QUOTED,
  AFTER_QUOTE, /* inside a quoted field: it ends here, or the quote is doubled */
  ENDED        /* the record is complete */
} csv_state;

struct csv_reader {
  input *in;
  char *buffer;
  size_t at, end; /* of what is left in the buffer */
  int64_t line;   /* of the next byte, from 1 */
  csv_state state;
  bool began;         /* the first bytes have been looked at */
  bool had_quotes;    /* in this record */
  int64_t quote_line; /* where the last quoted field began */
  char *text;         /* the record's fields, NUL-ended, one after another */
  size_t used, room;
  size_t *starts; /* of the fields in text */
  size_t n, n_room;
  char **fields; /* [n_room] */
};

status csv_open(csv_reader **out, const char *path, import_meter *meter) {
  status st = STATUS_OK;
  csv_reader *r = NULL;
  *out = NULL;
  TRY(mem_new(&r, 1, sizeof *r));
  r->line = 1;
  r->n_room = 64;
  TRY(mem_new(&r->buffer, BUFFER_BYTES, 1));
  TRY(mem_new(&r->starts, r->n_room, sizeof *r->starts));
  TRY(mem_new(&r->fields, r->n_room, sizeof *r->fields));
  TRY(input_open(&r->in, path, meter));
  *out = r;
  r = NULL;
done:
  csv_close(&r);
  return st;
}

void csv_close(csv_reader **r) {
  if (!*r) return;
  input_close(&(*r)->in);
  mem_free((*r)->buffer);
  mem_free((*r)->text);
  mem_free((*r)->starts);
  mem_free((*r)->fields);
  mem_free(*r);
  *r = NULL;
}

/* Every byte read adds at most one to the text (a separator its NUL), so room for the buffer is room enough.
 */
static status refill(csv_reader *r) {
  status st = STATUS_OK;
  TRY(input_read(r->in, r->buffer, BUFFER_BYTES, &r->end));
  r->at = 0;
  if (!r->began && r->end >= 3 && !memcmp(r->buffer, "\xef\xbb\xbf", 3)) r->at = 3;
  r->began = true;
done:
  return st;
}

static status make_room(csv_reader *r) {
  status st = STATUS_OK;
  size_t needed = r->used + (r->end - r->at) + 1;
  if (r->used > CSV_RECORD_BYTES)
    THROW(STATUS_BAD_INPUT, "%s: the record that begins in line %lld is longer than %d MiB: %s",
          input_path(r->in), (long long)r->line, CSV_RECORD_BYTES >> 20,
          r->state == QUOTED ? "a closing quote is missing" : "is it CSV?");
  if (needed > r->room) {
    TRY(mem_resize(&r->text, r->used, 2 * needed, 1));
    r->room = 2 * needed;
  }
done:
  return st;
}

static status begin_field(csv_reader *r) {
  status st = STATUS_OK;
  if (r->n == r->n_room) {
    TRY(mem_resize(&r->starts, r->n, 2 * r->n_room, sizeof *r->starts));
    TRY(mem_resize(&r->fields, r->n, 2 * r->n_room, sizeof *r->fields));
    r->n_room *= 2;
  }
  r->starts[r->n++] = r->used;
  r->state = AT_START;
done:
  return st;
}

/* The CR of a CRLF is part of the line's end, not of a field. */
static void end_record(csv_reader *r) {
  size_t start = r->starts[r->n - 1];
  if (r->state == PLAIN && r->used > start && r->text[r->used - 1] == '\r') r->used--;
  r->text[r->used++] = '\0';
  r->state = ENDED;
}

static status stray(const csv_reader *r, const char *what) {
  return status_set(STATUS_BAD_INPUT, "%s: line %lld, field %zu: %s", input_path(r->in), (long long)r->line,
                    r->n, what);
}

/* A byte that is not inside quotes. */
static status take_outside(csv_reader *r, char c) {
  if (c == ',') {
    r->text[r->used++] = '\0';
    return begin_field(r);
  }
  if (c == '\n') {
    end_record(r);
  } else if (r->state == AFTER_QUOTE) {
    if (c != '\r')
      return stray(r, "text after the closing quote (a quote inside a quoted field is written twice)");
  } else if (c == '"' && r->state == AT_START) {
    r->state = QUOTED;
    r->had_quotes = true;
    r->quote_line = r->line;
  } else {
    r->state = PLAIN;
    r->text[r->used++] = c;
  }
  return STATUS_OK;
}

static status take(csv_reader *r, char c) {
  if (!c) return stray(r, "a NUL byte: the file is not text in UTF-8");
  if (r->state == AFTER_QUOTE && c == '"') {
    r->state = QUOTED;
    r->text[r->used++] = '"';
    return STATUS_OK;
  }
  if (r->state != QUOTED) return take_outside(r, c);
  if (c == '"')
    r->state = AFTER_QUOTE;
  else
    r->text[r->used++] = c;
  return STATUS_OK;
}

/* Bytes up to the end of the record or of the buffer. */
static status take_buffer(csv_reader *r, int64_t *lines) {
  status st = STATUS_OK;
  TRY(make_room(r));
  while (r->at < r->end && r->state != ENDED) {
    char c = r->buffer[r->at++];
    TRY(take(r, c));
    *lines += c == '\n';
  }
done:
  return st;
}

/* One record, as it stands: an empty line has one empty field. n = 0 at the end of the file. */
static status read_record(csv_reader *r, csv_record *out) {
  status st = STATUS_OK;
  int64_t lines = 0;
  r->used = r->n = 0;
  r->had_quotes = false;
  TRY(begin_field(r));
  while (r->state != ENDED) {
    if (r->at == r->end) TRY(refill(r));
    if (r->at == r->end) {
      if (r->state == QUOTED)
        THROW(STATUS_BAD_INPUT, "%s: line %lld: the quoted field that begins here is not closed",
              input_path(r->in), (long long)r->quote_line);
      TRY(make_room(r));
      if (r->n == 1 && r->state == AT_START) r->n = 0; /* nothing after the last line's end */
      if (!r->n) break;
      end_record(r);
    }
    TRY(take_buffer(r, &lines));
  }
  for (size_t i = 0; i < r->n; i++) r->fields[i] = r->text + r->starts[i];
  *out = (csv_record){.line = r->line, .n = (int64_t)r->n, .fields = r->fields};
  r->line += lines;
done:
  return st;
}

status csv_next(csv_reader *r, csv_record *out) {
  status st = STATUS_OK;
  do TRY(read_record(r, out));
  while (out->n == 1 && !*out->fields[0] && !r->had_quotes);
done:
  return st;
}
