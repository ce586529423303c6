// How alike two sets of images are.
#pragma once

#include <span>

#include "models/image.h"

namespace mezzotint {

// 10 log10(1 / MSE) in dB over the colour channels (alpha is left out), peak 1, before rounding to
// bytes. The MSE is averaged over all images first. Infinity for equal images.
double psnr(std::span<const Image> a, std::span<const Image> b);

// Mean structural similarity (Wang et al. 2004) of the luma 0.299 R + 0.587 G + 0.114 B: Gaussian
// window 11 x 11, sigma 1.5, population covariance, K1 = 0.01, K2 = 0.03, windows inside the image
// only; averaged over the images. Images must be at least 11 x 11.
double ssim(std::span<const Image> a, std::span<const Image> b);

}  // namespace mezzotint
