#include "quant/source_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "format/output_file.h"
#include "format/temp_folder.h"
#include "quant/file_fixture.h"

namespace mezzotint {
namespace {

constexpr int64_t kPage = 4096;
constexpr int64_t kFaultAround = 16;  // pages: a fault maps those around it as well

// Whole pages of these bytes, and how many of them this process has in its page tables.
int64_t pages_of(std::span<const std::byte> bytes) {
  return static_cast<int64_t>(bytes.size()) / kPage - 1;
}
int64_t mapped_pages(std::span<const std::byte> bytes) {
  const auto first = (reinterpret_cast<uintptr_t>(bytes.data()) + kPage - 1) / kPage;
  std::vector<uint64_t> entries(static_cast<size_t>(pages_of(bytes)));
  const OutputFile pagemap("/proc/self/pagemap", OutputFile::Mode::kReadOnly);
  if (!pagemap.read_at(static_cast<int64_t>(first * 8),
                       std::as_writable_bytes(std::span(entries)))) {
    return -1;
  }
  return std::ranges::count_if(entries, [](uint64_t e) { return (e >> 63) != 0; });
}

class SourceReading : public testing::Test {
 protected:
  SourceReading() {
    std::mt19937_64 random(4);
    LayerTensors tensors;
    for (const char* name : {"a", "b", "c", "d", "e"}) {
      names_.emplace_back(name);
      tensors.push_back({name, "", normal_tensor(DType::kBF16, {1024, kTensor / 2048}, random)});
    }
    write_weights(folder_ / "m.safetensors", tensors);
  }

  // Wants every tensor; of those after the next `ahead` nothing may be in memory.
  void want_all(int64_t most_ahead, size_t ahead) {
    const WeightStore source = WeightStore::open(folder_ / "m.safetensors");
    SourceReader reader(source, names_, most_ahead);
    for (size_t i = 0; i < names_.size(); ++i) {
      reader.want(i);
      EXPECT_TRUE(is_in_memory(source, names_[i])) << i;
      for (size_t later = i + ahead + 1; later < names_.size(); ++later) {
        EXPECT_FALSE(is_in_memory(source, names_[later])) << i << " " << later;
      }
    }
  }

  static bool is_in_memory(const WeightStore& source, const std::string& name) {
    const std::span<const std::byte> mapped = source.bytes(name);
    if (source.read(name).raw() != mapped.data()) return true;  // read past the page cache
    const int64_t pages = mapped_pages(mapped);
    EXPECT_TRUE(pages <= kFaultAround || pages == pages_of(mapped)) << pages;
    return pages > kFaultAround;
  }

  static constexpr int64_t kTensor = int64_t{3} << 20;

  TestFolder folder_;
  std::vector<std::string> names_;
};

TEST_F(SourceReading, ReadsWhatIsWantedAndNoMoreThanAllowed) {
  for (const bool is_cached : {true, false}) {
    if (!is_cached) drop_from_cache(folder_ / "m.safetensors");
    want_all(0, 1);
    want_all(kTensor, 1);
    want_all(2 * kTensor, 2);
    want_all(100 * kTensor, 4);
  }
}

TEST_F(SourceReading, MayEndAnywhereAndLeavesNothingInMemory) {
  drop_from_cache(folder_ / "m.safetensors");
  const WeightStore source = WeightStore::open(folder_ / "m.safetensors");
  {
    const SourceReader unused(source, names_);
  }
  {
    const SourceReader empty(source, {});
  }
  {
    SourceReader reader(source, names_);
    reader.want(0);
    EXPECT_TRUE(is_in_memory(source, "a"));
  }
  for (const std::string& name : names_) EXPECT_FALSE(is_in_memory(source, name)) << name;
}

// "a" stands at an odd byte.
TEST_F(SourceReading, DoesNotMapWhatIsReadAsACopy) {
  const std::string header =
      R"({"a":{"dtype":"BF16","shape":[512,1024],"data_offsets":[1,1048577]},)"
      R"("b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  std::string text(8, '\0');
  text[0] = static_cast<char>(header.size());
  write_text(folder_ / "odd.safetensors", text + header + std::string(1048577, 'x'));
  const WeightStore source = WeightStore::open(folder_ / "odd.safetensors");
  const std::span<const std::byte> bytes = source.bytes("a");
  source.release("a");
  SourceReader reader(source, {"a"});
  reader.want(0);
  EXPECT_LE(mapped_pages(bytes), kFaultAround);
  EXPECT_NE(source.read("a").raw(), bytes.data());
}

TEST_F(SourceReading, TakesTensorsInMemory) {
  std::mt19937_64 random(5);
  const Tensor held = normal_tensor(DType::kBF16, {3, 5}, random);
  const WeightStore source = WeightStore::of_tensors({{"a", held}, {"b", held}});
  SourceReader reader(source, {"a", "b"});
  reader.want(0);
  reader.want(1);
  EXPECT_EQ(source.bytes("b").data(), held.raw());
}

TEST(TensorsAhead, AreOneAndThoseThatFitWithIt) {
  const std::vector<int64_t> bytes = {9, 5, 3, 2, 50, 1};
  const auto ahead = [&](size_t first, int64_t most) {
    return tensors_ahead(std::span(bytes).subspan(first), most);
  };
  EXPECT_EQ(ahead(0, 0), 1u);
  EXPECT_EQ(ahead(0, 7), 1u);
  EXPECT_EQ(ahead(0, 8), 2u);
  EXPECT_EQ(ahead(0, 59), 3u);
  EXPECT_EQ(ahead(0, 61), 5u);
  EXPECT_EQ(ahead(3, 4), 1u);  // one, whatever its size
  EXPECT_EQ(ahead(5, 100), 0u);
  EXPECT_EQ(ahead(6, 100), 0u);
}

}  // namespace
}  // namespace mezzotint
