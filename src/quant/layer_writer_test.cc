#include "quant/layer_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "format/expect_error.h"
#include "quant/file_fixture.h"

namespace mezzotint {
namespace {

class WritingLayers : public testing::Test {
 protected:
  WritingLayers() {
    std::mt19937_64 random(5);
    std::vector<TensorPlan> plan;
    for (int i = 0; i < 20; ++i) {
      const std::string name = "layer" + std::to_string(i);
      layers_.push_back({{name + ".weight", "", normal_tensor(DType::kF32, {64, 100}, random)},
                         {name + ".bias", "", normal_tensor(DType::kF32, {64}, random)}});
      for (const NamedTensor& t : layers_.back()) {
        plan.push_back({t.name, t.tensor.dtype(), t.tensor.shape()});
      }
    }
    writer_.emplace(folder_ / "w.safetensors", plan);
  }

  TestFolder folder_;
  std::vector<LayerTensors> layers_;
  std::optional<Writer> writer_;
};

TEST_F(WritingLayers, PutsEveryTensorInItsPlace) {
  LayerWriter layers(*writer_);
  for (const LayerTensors& layer : layers_) layers.put({.tensors = layer});
  layers.finish();
  writer_->finish();
  const WeightStore store = WeightStore::open_file(folder_ / "w.safetensors");
  int equal = 0;
  for (const LayerTensors& layer : layers_) {
    for (const NamedTensor& t : layer) {
      equal += std::ranges::equal(store.read(t.name).buffer().bytes(), t.tensor.buffer().bytes());
    }
  }
  EXPECT_EQ(equal, 40);
}

TEST_F(WritingLayers, AnErrorComesWithTheNextLayerAndWithTheEnd) {
  const LayerTensors unknown = {{"other", "", layers_[0][0].tensor}};
  LayerWriter layers(*writer_);
  layers.put({.tensors = unknown});
  expect_error(ErrorCode::kInternal, {"the tensor was not planned"},
               [&] { layers.put({.tensors = layers_[1]}); });
  EXPECT_FALSE(writer_->done("layer1.weight"));
  layers.put({.tensors = unknown});
  expect_error(ErrorCode::kInternal, {"the tensor was not planned"}, [&] { layers.finish(); });
  EXPECT_NO_THROW(layers.finish());
}

TEST_F(WritingLayers, MeasuresBeforeAndReleasesAfterWriting) {
  std::vector<bool> written;  // when either was called
  const auto look = [&] { written.push_back(writer_->done("layer0.bias")); };
  LayerWriter layers(*writer_);
  layers.put({.tensors = layers_[0], .measure = look, .release = look});
  layers.finish();
  EXPECT_EQ(written, (std::vector<bool>{false, true}));
}

TEST_F(WritingLayers, WhatCannotBeMeasuredIsNotWritten) {
  bool released = false;
  LayerWriter layers(*writer_);
  layers.put({.tensors = layers_[0],
              .measure = [] { throw Error(ErrorCode::kInternal, "no measure"); },
              .release = [&] { released = true; }});
  expect_error(ErrorCode::kInternal, {"no measure"}, [&] { layers.finish(); });
  EXPECT_FALSE(writer_->done("layer0.weight"));
  EXPECT_FALSE(released);
}

}  // namespace
}  // namespace mezzotint
