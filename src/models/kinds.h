/* The kinds of models. Private to src/models. */
#ifndef MPISTILL_MODELS_KINDS_H
#define MPISTILL_MODELS_KINDS_H

#include "models/models.h"

/* [N, D] -> (linear, [batch norm], activation, [dropout]) x hidden layers -> linear -> [N, classes]. */
extern const model_kind model_mlp;
/* [N, C, H, W] -> (convolution, [batch norm], activation, 2 x 2 max pooling) x channels -> [linear,
 * activation] -> [dropout] -> linear -> [N, classes]: LeNet's plan. */
extern const model_kind model_cnn;
/* The CIFAR network of He et al. 2016 (section 4.2): 6n + 2 layers in three stages of n blocks with width, 2
 * width and 4 width channels. Where a block changes the shape, its shortcut is a 1 x 1 convolution with batch
 * norm (their option B). */
extern const model_kind model_resnet;
/* MobileNetV2 (Sandler et al. 2018, table 2) with width channels in its first block; images below 64 points
 * keep their size in the first convolution and the second stage. */
extern const model_kind model_mobilenet;
/* An encoder for classes of token sequences: int64 tokens [N, length], 0 being padding; token and position
 * embeddings, depth blocks (attention.h), layer norm, mean over the tokens that are no padding, linear. */
extern const model_kind model_transformer;
/* The same blocks over patches of an image (Dosovitskiy et al. 2021), mean over the patches. */
extern const model_kind model_vit;
/* depth recurrent layers over embedded tokens [N, length], or over float sequences [N, length, features]; the
 * last state, linear. */
extern const model_kind model_lstm;
extern const model_kind model_gru;
/* int64 user [N] and item [N]: an embedding and, with hidden units, a layer of linear, ReLU, linear for each
 * side; their product element by element, linear. Without hidden units a matrix factorisation, with a weight
 * for each factor and class. */
extern const model_kind model_two_tower;

#endif
