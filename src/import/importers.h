/* The formats there are; each in the file of its name. */
#ifndef MPISTILL_IMPORT_IMPORTERS_H
#define MPISTILL_IMPORT_IMPORTERS_H

#include "import/import.h"

extern const importer importer_idx;
extern const importer importer_cifar;
extern const importer importer_csv;
extern const importer importer_npy;

#endif
