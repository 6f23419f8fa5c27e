/* The kinds of models. Private to src/models. */
#ifndef MPISTILL_MODELS_KINDS_H
#define MPISTILL_MODELS_KINDS_H

#include "models/models.h"

/* [N, D] -> (linear, [batch norm], activation, [dropout]) x hidden layers -> linear -> [N, classes]. */
extern const model_kind model_mlp;
/* [N, C, H, W] -> (convolution, [batch norm], activation, 2 x 2 max pooling) x channels -> [linear, activation] -> [dropout] ->
 * linear -> [N, classes]: LeNet's plan. */
extern const model_kind model_cnn;
/* The CIFAR network of He et al. 2016 (section 4.2): 6n + 2 layers in three stages of n blocks with width, 2 width and 4 width
 * channels. Where a block changes the shape, its shortcut is a 1 x 1 convolution with batch norm (their option B). */
extern const model_kind model_resnet;

#endif
