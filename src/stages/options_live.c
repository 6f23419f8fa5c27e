/* Options of distill: teachers that are asked as the student learns. */
#include "stages/options_rows.h"

#define AT(field) offsetof(mpistill_train_options, field)

const option live_option_rows[] = {
    {.flag = "live-teacher",
     .type = OPTION_ITEMS,
     .at = AT(live_teachers),
     .fields = teacher_fields,
     .item_bytes = sizeof(mpistill_teacher),
     .parse_item = parse_teacher,
     .value = "NAME=FILE[:KEY=VALUE...]",
     .help = "a teacher, ONNX, that labels what the student sees as it learns, in place of soft labels; "
             "repeat it for several; task=NAME where the student has several tasks, and as --teacher of "
             "teach"},
    {.flag = "teaching-ranks",
     .type = OPTION_INT,
     .at = AT(teaching_ranks),
     .initial = "-1",
     .min = -1,
     .max = 1e6,
     .help = "ranks that live teachers are asked on, the last ones; 0, and on one rank: those that train ask "
             "them themselves; -1: by cost, 0 where --feature reads their tensors. The student is the same"},
    {.flag = "live-dtype",
     .type = OPTION_CHOICE,
     .at = AT(live_dtype),
     .initial = "float16",
     .choice = dtype_choice,
     .value = "TYPE",
     .help = "live teachers' logits and inner tensors are rounded to, as stored ones are"},
    {0}};
