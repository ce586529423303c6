#include "quant/layer_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <future>
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

// A layer that is measured until told to go on.
struct Gate {
  std::promise<void> open;
  std::shared_future<void> opened = open.get_future().share();
  std::function<void()> measure = [opened = opened] { opened.wait(); };
};

TEST_F(WritingLayers, WaitForRoomAndNoLonger) {
  LayerWriter layers(*writer_, 100);
  Gate first, second;
  layers.put({.tensors = layers_[0], .measure = first.measure, .bytes = 60});
  layers.put({.tensors = layers_[1], .measure = second.measure, .bytes = 40});  // does not wait
  EXPECT_EQ(layers.written(), 0u);
  auto third =
      std::async(std::launch::async, [&] { layers.put({.tensors = layers_[2], .bytes = 30}); });
  EXPECT_EQ(third.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout);
  first.open.set_value();
  third.get();  // while the second is not written
  EXPECT_TRUE(writer_->done("layer0.weight"));
  EXPECT_FALSE(writer_->done("layer1.weight"));
  EXPECT_EQ(layers.written(), 1u);
  second.open.set_value();
  layers.put({.tensors = layers_[3], .bytes = 1000});  // alone, whatever it takes
  layers.finish();
  EXPECT_EQ(layers.written(), 4u);
}

TEST_F(WritingLayers, NothingIsWrittenBehindALayerThatFails) {
  LayerWriter layers(*writer_, 100);
  Gate gate;
  bool released = false;
  layers.put({.tensors = {{"other", "", layers_[0][0].tensor}}, .measure = gate.measure});
  layers.put({.tensors = layers_[1], .release = [&] { released = true; }});
  gate.open.set_value();
  expect_error(ErrorCode::kInternal, {"the tensor was not planned"}, [&] { layers.finish(); });
  layers.finish();
  EXPECT_EQ(layers.written(), 0u);
  EXPECT_FALSE(released);
  EXPECT_FALSE(writer_->done("layer1.weight"));
}

TEST_F(WritingLayers, WhatWasPutIsWrittenAtTheEndOfTheWriter) {
  {
    LayerWriter layers(*writer_, 1 << 20);
    for (size_t i = 0; i < 5; ++i) layers.put({.tensors = layers_[i], .bytes = 10});
  }
  for (const char* name : {"layer0.weight", "layer4.bias"}) EXPECT_TRUE(writer_->done(name));
}

}  // namespace
}  // namespace mezzotint
