// What quantize() holds while it packs.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "base/peak_resident.h"
#include "mezzotint/quantize.h"
#include "nn/quantize_fixture.h"

namespace mezzotint {
namespace {

constexpr int64_t kLayers = 8, kN = 1024, kK = 4096;
constexpr int64_t kLayerBytes = kN * kK;  // int8
// Code pages, scales, what the allocator keeps.
constexpr int64_t kSlack = int64_t{6} << 20;

TEST(QuantizeMemory, PeakIsWhatIsPackedAndOneLayer) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's own memory counts";
#endif
  const TestFolder folder;
  std::vector<Linear> linears;
  {
    std::mt19937_64 random(50);
    QuantizedFixture files;
    for (int64_t i = 0; i < kLayers; ++i) {
      const std::string name = "blocks." + std::to_string(i) + ".a";
      for (NamedTensor& t :
           make_random_layer(*find_algorithm("W8A8_DYNAMIC"), name,
                             {.dims = {kN, kK}, .bias = false, .smoothing = false}, random)) {
        files.tensors.push_back(std::move(t));
      }
      linears.push_back(Linear::from_float(name, Tensor::allocate(DType::kBF16, {kN, kK}), {}));
    }
    files.write(folder.path());
  }
  ModuleMap map;
  for (Linear& linear : linears) map.linears.push_back(&linear);
  if (!reset_peak_resident()) GTEST_SKIP() << "no /proc/self/clear_refs";
  const int64_t before = peak_resident();
  quantize(map, folder.path(), {}, ExecContext({.threads = 1}));
  int64_t packed = 0;
  for (const Linear& linear : linears) packed += linear.resident_bytes();
  EXPECT_LE(peak_resident() - before, packed + kLayerBytes + kSlack);
  // The bound has teeth: with the pages of all files it would be twice what is packed.
  EXPECT_LT(packed + kLayerBytes + kSlack, 2 * kLayers * kLayerBytes);
}

}  // namespace
}  // namespace mezzotint
