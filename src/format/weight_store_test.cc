#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <string>
#include <thread>

#include "base/peak_resident.h"
#include "format/expect_error.h"
#include "format/temp_folder.h"
#include "mezzotint/weights.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

// One U8 tensor of `bytes` bytes 0, 1, 2, ...
std::string one_tensor(const std::string& name, int64_t bytes) {
  const std::string n = std::to_string(bytes);
  return safetensors_file(
      "{\"" + name + "\":{\"dtype\":\"U8\",\"shape\":[" + n + "],\"data_offsets\":[0," + n + "]}}",
      bytes);
}

std::string index_of(const std::string& map) { return "{\"weight_map\":{" + map + "}}"; }

TEST(WeightStore, ReadsWithoutCopy) {
  const TempFolder folder;
  const fs::path file = folder.write("m.safetensors", one_tensor("w", 100));
  const WeightStore store = WeightStore::open(file);
  ASSERT_EQ(store.tensors().size(), 1u);
  EXPECT_EQ(store.tensors()[0].bytes, 100);
  EXPECT_EQ(store.total_bytes(), 100);
  EXPECT_EQ(store.folder(), folder.path());
  const Tensor w = store.read("w");
  EXPECT_TRUE(w.buffer().read_only());
  EXPECT_FALSE(w.buffer().owned());
  EXPECT_EQ(w.data<uint8_t>()[99], 99);
  EXPECT_EQ(store.read("w").raw(), w.raw());
  EXPECT_TRUE(store.warnings().empty());
}

TEST(WeightStore, ATensorOutlivesItsStore) {
  const TempFolder folder;
  Tensor w;
  {
    const WeightStore store = WeightStore::open(folder.write("m.safetensors", one_tensor("w", 9)));
    w = store.read("w");
  }
  EXPECT_EQ(w.data<uint8_t>()[8], 8);
}

TEST(WeightStore, CopiesWhatIsNotAligned) {
  const TempFolder folder;
  // The F32 begins at byte 1 of the data, and the header has an odd length.
  std::string json =
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
      "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1,9]}}";
  if ((json.size() + 1) % 4 == 0) json += ' ';
  const WeightStore store =
      WeightStore::open(folder.write("m.safetensors", safetensors_file(json, 9)));
  const Tensor b = store.read("b");
  EXPECT_TRUE(b.buffer().owned());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(b.raw()) % 4, 0u);
  EXPECT_EQ(b.raw()[0], std::byte{1});
  EXPECT_EQ(b.raw()[7], std::byte{8});
}

TEST(WeightStore, NamesTheNearestTensors) {
  const TempFolder folder;
  const WeightStore store =
      WeightStore::open(folder.write("m.safetensors", one_tensor("proj_out.weight", 4)));
  EXPECT_EQ(store.find("proj_out"), nullptr);
  expect_error(ErrorCode::kInput,
               {"no tensor of this name", "tensor proj_out", "m.safetensors",
                "did you mean proj_out.weight?"},
               [&] { store.read("proj_out"); });
}

TEST(WeightStore, ReadsShardsAsOne) {
  const TempFolder folder;
  folder.write("m-1.safetensors", one_tensor("a", 5));
  folder.write("m-2.safetensors", one_tensor("b", 7));
  folder.write("m.safetensors.index.json",
               "{\"metadata\":{\"total_size\":12},\"weight_map\":{\"b\":\"m-2.safetensors\","
               "\"a\":\"m-1.safetensors\"}}");
  const WeightStore store = WeightStore::open(folder.path() / "m.safetensors.index.json");
  EXPECT_EQ(store.files().size(), 2u);
  EXPECT_EQ(store.total_bytes(), 12);
  EXPECT_EQ(store.info("b").file, 1);
  EXPECT_EQ(store.read("b").data<uint8_t>()[6], 6);
  EXPECT_TRUE(store.warnings().empty());
}

TEST(WeightStore, FollowsLinksIntoACache) {
  const TempFolder folder;
  const fs::path blob = folder.write("blobs/abc", one_tensor("w", 4));
  fs::create_directories(folder.path() / "snapshot");
  fs::create_symlink(blob, folder.path() / "snapshot" / "model.safetensors");
  const WeightStore store = WeightStore::open(folder.path() / "snapshot");
  EXPECT_EQ(store.folder(), folder.path() / "snapshot");
  EXPECT_EQ(store.read("w").size(), 4);
}

TEST(WeightStore, WarnsAboutAWorldWritableFileAndAWrongTotal) {
  const TempFolder folder;
  const fs::path shard = folder.write("m-1.safetensors", one_tensor("a", 5));
  fs::permissions(shard, fs::perms::all);
  folder.write("m.safetensors.index.json",
               "{\"metadata\":{\"total_size\":13},\"weight_map\":{\"a\":\"m-1.safetensors\"}}");
  const WeightStore store = WeightStore::open(folder.path() / "m.safetensors.index.json");
  ASSERT_EQ(store.warnings().size(), 2u);
  EXPECT_NE(store.warnings()[0].find("anyone may write"), std::string::npos);
  EXPECT_NE(store.warnings()[1].find("total_size says 13, the shards hold 5"), std::string::npos);
}

struct HostileIndex {
  const char* name;
  const char* index;
  const char* message;
  const char* place;
};

class HostileShards : public testing::TestWithParam<HostileIndex> {};

TEST_P(HostileShards, AreOneClearError) {
  const TempFolder folder;
  folder.write("m-1.safetensors", one_tensor("a", 5));
  folder.write("m-2.safetensors", one_tensor("b", 7));
  folder.write("twin.safetensors", one_tensor("a", 5));
  folder.write("bad.safetensors", "{}");
  folder.write("m.safetensors.index.json", index_of(GetParam().index));
  expect_error(ErrorCode::kInput, {GetParam().message, GetParam().place},
               [&] { WeightStore::open(folder.path() / "m.safetensors.index.json"); });
}

INSTANTIATE_TEST_SUITE_P(
    Index, HostileShards,
    testing::Values(
        HostileIndex{"MissingShard", R"("a":"m-1.safetensors","c":"m-3.safetensors")",
                     "a shard is missing", "m-3.safetensors"},
        HostileIndex{"ListedNotHeld", R"("a":"m-1.safetensors","c":"m-1.safetensors")",
                     "missing from its shard", "tensor c"},
        HostileIndex{"ListedInAnotherShard", R"("b":"m-1.safetensors","a":"m-2.safetensors")",
                     "index and shard disagree", "tensor a"},
        HostileIndex{"DuplicateOverShards", R"("a":"m-1.safetensors","x":"twin.safetensors")",
                     "stands in two shards", "tensor a"},
        HostileIndex{"ShardIsDamaged", R"("a":"m-1.safetensors","x":"bad.safetensors")",
                     "too short", "bad.safetensors"},
        HostileIndex{"OutsideTheFolder", R"("a":"../m-1.safetensors")", "not a plain", "tensor a"}),
    [](const auto& info) { return info.param.name; });

TEST(WeightStore, RejectsATensorOfAShardThatTheIndexDoesNotList) {
  const TempFolder folder;
  folder.write("m-1.safetensors",
               safetensors_file("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                                "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
                                2));
  folder.write("m.safetensors.index.json", index_of("\"a\":\"m-1.safetensors\""));
  expect_error(ErrorCode::kInput, {"disagree", "tensor b", "got no entry", "index.json"},
               [&] { WeightStore::open(folder.path() / "m.safetensors.index.json"); });
}

TEST(WeightStore, SeveralThreadsReadAndReleaseAtOnce) {
  constexpr int64_t kBytes = 3'000'000;
  const TempFolder folder;
  const WeightStore store =
      WeightStore::open(folder.write("m.safetensors", one_tensor("w", kBytes)));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&store, t] {
      for (int round = 0; round < 20; ++round) {
        const Tensor w = store.read("w");
        for (int64_t i = t; i < kBytes; i += 4096) {
          ASSERT_EQ(w.data<uint8_t>()[i], static_cast<uint8_t>(i));
        }
        store.release("w");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// 4 GiB that take no space on the disk, in 128 tensors.
fs::path sparse_file(const TempFolder& folder) {
  constexpr int64_t kTensor = int64_t{32} << 20;
  std::string json = "{";
  for (int64_t i = 0; i < 128; ++i) {
    json += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":{\"dtype\":\"F32\",\"shape\":[" +
            std::to_string(kTensor / 4) + "],\"data_offsets\":[" + std::to_string(i * kTensor) +
            "," + std::to_string((i + 1) * kTensor) + "]}";
  }
  json += "}";
  const std::string file = safetensors_file(json, 0);
  const fs::path path = folder.write("m.safetensors", file);
  fs::resize_file(path, file.size() + 128 * static_cast<uint64_t>(kTensor));
  return path;
}

TEST(WeightStore, OpeningAHugeFileTakesNoMemory) {
  const TempFolder folder;
  const fs::path path = sparse_file(folder);
  if (!reset_peak_resident()) GTEST_SKIP() << "no /proc/self/clear_refs";
  const int64_t before = peak_resident();
  const WeightStore store = WeightStore::open(path);
  EXPECT_EQ(store.total_bytes(), int64_t{4} << 30);
  // 16 MiB of 4096: code pages and, under a sanitizer, its shadow of them (4.6 MiB were seen).
  EXPECT_LT(peak_resident() - before, int64_t{16} << 20);
}

TEST(WeightStore, StreamingAHugeFileTakesTheMemoryOfOneTensor) {
  const TempFolder folder;
  const WeightStore store = WeightStore::open(sparse_file(folder));
  if (!reset_peak_resident()) GTEST_SKIP() << "no /proc/self/clear_refs";
  const int64_t before = peak_resident();
  int64_t sum = 0;
  for (const char* name : {"0", "1", "2", "3"}) {
    const Tensor t = store.read(name);
    for (int64_t i = 0; i < t.byte_size(); i += 4096) sum += std::to_integer<int>(t.raw()[i]);
    store.release(name);
  }
  EXPECT_EQ(sum, 0);
  EXPECT_LT(peak_resident() - before, int64_t{38} << 20);
  // The bound has teeth: the same without release() breaks it.
  for (const char* name : {"4", "5"}) {
    const Tensor t = store.read(name);
    for (int64_t i = 0; i < t.byte_size(); i += 4096) sum += std::to_integer<int>(t.raw()[i]);
  }
  EXPECT_GT(peak_resident() - before, int64_t{55} << 20);
}

TEST(WeightStore, WhatIsReadAheadIsTheSameAndGoesWithRelease) {
  constexpr int64_t kBytes = 30'000'000;  // more than comes along with the header
  const TempFolder folder;
  const fs::path file = folder.write("m.safetensors", one_tensor("w", kBytes));
  drop_from_cache(file);
  const WeightStore store = WeightStore::open(file);
  const std::span<const std::byte> mapped = store.bytes("w");
  store.read_ahead("w");
  Tensor w = store.read("w");
  const bool read_directly = w.raw() != mapped.data();
  EXPECT_EQ(store.read("w").raw(), w.raw());
  EXPECT_TRUE(w.buffer().read_only());
  EXPECT_EQ(std::memcmp(w.raw(), mapped.data(), kBytes), 0);
  store.release("w");
  EXPECT_EQ(store.read("w").raw(), mapped.data());
  EXPECT_EQ(w.data<uint8_t>()[kBytes - 1], static_cast<uint8_t>(kBytes - 1)) << "still held";
  // Comparing has brought it into the cache.
  store.read_ahead("w");
  EXPECT_EQ(store.read("w").raw(), mapped.data());
  expect_error(ErrorCode::kInput, {"there is no tensor of this name", "c"},
               [&] { store.read_ahead("c"); });
  if (!read_directly) GTEST_SKIP() << "no direct reading here: only mapped";
}

// "b" stands at an odd byte, so that reading it makes a copy.
TEST(WeightStore, BytesAreThoseOfTheFileWhereverTheyStand) {
  const TempFolder folder;
  const std::string header = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                             R"("b":{"dtype":"BF16","shape":[3],"data_offsets":[1,7]}} )";
  std::string text(8, '\0');
  text[0] = static_cast<char>(header.size());
  const auto file = folder.write("odd.safetensors", text + header + "xabcdef");
  const WeightStore store = WeightStore::open(file);
  const std::span<const std::byte> bytes = store.bytes("b");
  ASSERT_EQ(bytes.size(), 6u);
  EXPECT_EQ(std::memcmp(bytes.data(), "abcdef", 6), 0);
  const Tensor copy = store.read("b");
  EXPECT_NE(copy.raw(), bytes.data());
  EXPECT_EQ(std::memcmp(copy.raw(), "abcdef", 6), 0);
  expect_error(ErrorCode::kInput, {"there is no tensor of this name", "c"},
               [&] { store.bytes("c"); });
}

TEST(WeightStore, TensorsInMemoryAreReadLikeThoseOfAFile) {
  const Tensor a = Tensor::copy_of<float>(std::array{1.0f, 2.0f}, {2});
  const Tensor b = Tensor::copy_of<uint8_t>(std::array<uint8_t, 3>{7, 8, 9}, {3});
  const WeightStore store = WeightStore::of_tensors({{"b", b}, {"a", a}});
  ASSERT_EQ(store.tensors().size(), 2u);
  EXPECT_EQ(store.tensors()[0].name, "b");
  EXPECT_EQ(store.total_bytes(), 11);
  EXPECT_TRUE(store.folder().empty());
  store.release("a");
  EXPECT_EQ(store.read("a").raw(), a.raw());
  EXPECT_EQ(store.bytes("b").data(), b.raw());
  EXPECT_EQ(store.bytes("b").size(), 3u);
  EXPECT_EQ(store.read("b").shape(), Shape{3});
  expect_error(ErrorCode::kInput, {"there is no tensor of this name", "c"},
               [&] { store.read("c"); });
  expect_error(ErrorCode::kUsage, {"a name stands twice among the tensors", "a"},
               [&] { WeightStore::of_tensors({{"a", a}, {"a", b}}); });
}

}  // namespace
}  // namespace mezzotint
