// A model folder that can make pictures: transformer, scheduler, pixel layout, prompts and, where
// there is one, a classifier that says what a picture shows.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "mezzotint/context.h"
#include "models/classifier.h"
#include "models/flux.h"
#include "models/image.h"
#include "models/pixels.h"
#include "models/prompts.h"
#include "models/sampler.h"

namespace mezzotint::cli {

struct Pipeline {
  std::filesystem::path folder;
  SchedulerConfig scheduler;
  PixelLayout layout;
  PromptSet prompts;
  std::optional<Classifier> classifier;
};

// The folder with pixels.json: `model` or the folder above it; empty when neither has one.
std::filesystem::path pipeline_folder(const std::filesystem::path& model);
// Throws Error(kUnsupported) when pipeline_folder() is empty.
Pipeline read_pipeline(const std::filesystem::path& model);

struct ImageRequest {
  std::vector<int64_t> prompt_ids;
  uint64_t seed = 0;  // image i starts from seed + i, so that one image can be made alone
  int64_t steps = 0;
  float guidance = 1.0f;
};

struct ImageRun {
  Tensor latents;             // F32 [images, tokens, channels]
  std::vector<Image> images;  // as the layout says, with alpha where it has one
  double step_seconds = 0;    // median
};

// All images in one batch.
ImageRun make_images(const FluxTransformer& model, const Pipeline& pipeline,
                     const ImageRequest& request,
                     const std::function<void(const StepInfo&)>& on_step, const ExecContext& ctx);

// [images, tokens, channels] of N(0,1), image i from seed + i.
Tensor seeded_noise(uint64_t seed, int64_t images, int64_t tokens, int64_t channels);

int64_t resident_bytes(FluxTransformer& model);
// Of the weight files that load_flux() would read.
int64_t weight_file_bytes(const std::filesystem::path& model);

}  // namespace mezzotint::cli
