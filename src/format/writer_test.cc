#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <thread>

#include "format/expect_error.h"
#include "format/temp_folder.h"
#include "mezzotint/weights.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

using Content = std::map<std::string, std::string>;

// A mix of widths, an empty tensor, a scalar, an odd size and a name that needs escaping.
std::vector<TensorPlan> plan() {
  return {{"a.weight", DType::kI8, {3, 5}},
          {"a.scale", DType::kF32, {3, 1}},
          {"b.\"\xc3\xa9\"", DType::kBF16, {7}},
          {"c", DType::kI64, {}},
          {"d", DType::kF32, {0, 4}},
          {"e", DType::kU8, {1000}},
          {"f", DType::kF16, {2, 2}}};
}

// Bytes that depend on the name.
std::string bytes_of(const TensorPlan& t) {
  std::string bytes(static_cast<size_t>(byte_count(t.dtype, t.shape)), '\0');
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>(i * 31 + t.name.size() * 7 + static_cast<uint8_t>(t.name[0]));
  }
  return bytes;
}

void put(Writer* writer, const TensorPlan& t) {
  const std::string bytes = bytes_of(t);
  writer->put(t.name, std::as_bytes(std::span(bytes.data(), bytes.size())));
}

Content content(const fs::path& folder) {
  Content files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    files[entry.path().filename().string()] = file_bytes(entry.path());
  }
  return files;
}

Content write_all(const std::vector<size_t>& order, const WriterOptions& options) {
  const TempFolder folder;
  Writer writer(folder.path() / "m.safetensors", plan(), options);
  for (const size_t i : order) put(&writer, plan()[i]);
  writer.finish();
  return content(folder.path());
}

const std::vector<size_t> kInOrder = {0, 1, 2, 3, 4, 5, 6};

TEST(Writer, WhatItWritesReadsBack) {
  const TempFolder folder;
  const fs::path file = folder.path() / "m.safetensors";
  Writer writer(file, plan(), {.metadata = {{"format", "pt"}}});
  EXPECT_EQ(writer.files(), std::vector<fs::path>{file});
  for (const TensorPlan& t : plan()) put(&writer, t);
  const std::string run_id = writer.finish();
  EXPECT_EQ(run_id.size(), 32u);

  const WeightStore store = WeightStore::open(file);
  EXPECT_EQ(store.metadata().at("mezzotint_run"), run_id);
  EXPECT_EQ(store.metadata().at("format"), "pt");
  ASSERT_EQ(store.tensors().size(), plan().size());
  for (const TensorPlan& t : plan()) {
    const Tensor back = store.read(t.name);
    EXPECT_EQ(back.dtype(), t.dtype);
    EXPECT_EQ(back.shape(), t.shape);
    EXPECT_FALSE(back.buffer().owned()) << t.name << " is aligned, so nothing is copied";
    const std::string bytes = bytes_of(t);
    EXPECT_TRUE(std::equal(back.buffer().bytes().begin(), back.buffer().bytes().end(),
                           std::as_bytes(std::span(bytes)).begin()));
  }
}

TEST(Writer, TheOrderOfPutsDoesNotMatter) {
  const Content expected = write_all(kInOrder, {});
  ASSERT_EQ(expected.size(), 1u);
  std::vector<size_t> order = kInOrder;
  std::reverse(order.begin(), order.end());
  EXPECT_EQ(write_all(order, {}), expected);
  std::swap(order[0], order[3]);
  EXPECT_EQ(write_all(order, {}), expected);
}

TEST(Writer, SeveralThreadsMayPut) {
  const TempFolder folder;
  Writer writer(folder.path() / "m.safetensors", plan());
  std::vector<std::thread> threads;
  for (const TensorPlan& t : plan()) threads.emplace_back([&writer, t] { put(&writer, t); });
  for (std::thread& thread : threads) thread.join();
  writer.finish();
  EXPECT_EQ(content(folder.path()), write_all(kInOrder, {}));
}

TEST(Writer, TheRunIdDependsOnEveryNameDtypeShapeAndByte) {
  const auto run = [](const TensorPlan& t, std::byte last) {
    const TempFolder folder;
    Writer writer(folder.path() / "m.safetensors", {t});
    std::array<std::byte, 4> bytes{};
    bytes[3] = last;
    writer.put(t.name, std::as_bytes(std::span(bytes)));
    return writer.finish();
  };
  const std::string base = run({"w", DType::kI8, {4}}, std::byte{0});
  EXPECT_EQ(run({"w", DType::kI8, {4}}, std::byte{0}), base);
  EXPECT_NE(run({"v", DType::kI8, {4}}, std::byte{0}), base);
  EXPECT_NE(run({"w", DType::kU8, {4}}, std::byte{0}), base);
  EXPECT_NE(run({"w", DType::kI8, {2, 2}}, std::byte{0}), base);
  EXPECT_NE(run({"w", DType::kI8, {4}}, std::byte{1}), base);
}

TEST(Writer, ShardsCarryOneRunIdAndAnIndex) {
  const TempFolder folder;
  Writer writer(folder.path() / "m.safetensors", plan(), {.max_shard_bytes = 50});
  ASSERT_EQ(writer.files().size(), 3u);
  EXPECT_EQ(writer.files()[1].filename(), "m-00002-of-00003.safetensors");
  for (const TensorPlan& t : plan()) put(&writer, t);
  const std::string run_id = writer.finish();

  const WeightStore store = WeightStore::open(folder.path());
  EXPECT_EQ(store.files().size(), 3u);
  EXPECT_TRUE(store.warnings().empty()) << "metadata.total_size";
  for (const TensorPlan& t : plan()) EXPECT_NE(store.find(t.name), nullptr);
  for (const fs::path& file : writer.files()) {
    EXPECT_EQ(WeightStore::open_file(file).metadata().at("mezzotint_run"), run_id);
  }
  const std::string index = file_bytes(folder.path() / "m.safetensors.index.json");
  EXPECT_NE(index.find(run_id), std::string::npos);
  EXPECT_EQ(run_id, [] {
    const TempFolder whole;
    Writer one(whole.path() / "m.safetensors", plan());
    for (const TensorPlan& t : plan()) put(&one, t);
    return one.finish();
  }()) << "shards are packaging, not content";
}

TEST(Writer, OneShardThatFitsGetsThePlainName) {
  const Content files = write_all(kInOrder, {.max_shard_bytes = 1'000'000});
  EXPECT_EQ(files, write_all(kInOrder, {}));
}

TEST(Writer, TheDestinationIsUntouchedUntilFinish) {
  const TempFolder folder;
  const fs::path file = folder.write("m.safetensors", "precious");
  {
    Writer writer(file, plan());
    for (const TensorPlan& t : plan()) put(&writer, t);
    EXPECT_EQ(file_bytes(file), "precious");
  }
  EXPECT_EQ(file_bytes(file), "precious");
  Writer writer(file, plan(), {.resume = true});
  writer.finish();
  EXPECT_EQ(content(folder.path()), write_all(kInOrder, {}));
}

class Resume : public testing::TestWithParam<int64_t> {
 protected:
  const WriterOptions options_{.max_shard_bytes = GetParam()};
  WriterOptions resuming() const {
    WriterOptions options = options_;
    options.resume = true;
    return options;
  }
};

TEST_P(Resume, AfterEveryNumberOfTensorsGivesTheSameBytes) {
  const Content expected = write_all(kInOrder, options_);
  for (size_t stop = 0; stop <= kInOrder.size(); ++stop) {
    const TempFolder folder;
    const fs::path file = folder.path() / "m.safetensors";
    {
      Writer writer(file, plan(), options_);
      for (size_t i = 0; i < stop; ++i) put(&writer, plan()[i]);
    }
    Writer writer(file, plan(), resuming());
    for (size_t i = 0; i < plan().size(); ++i) {
      EXPECT_EQ(writer.done(plan()[i].name), i < stop);
      if (!writer.done(plan()[i].name)) put(&writer, plan()[i]);
    }
    writer.finish();
    EXPECT_EQ(content(folder.path()), expected) << stop;
  }
}

// finish() renames file by file; the journal goes last. Every state between is rebuilt here.
TEST_P(Resume, InTheMiddleOfFinishGivesTheSameBytes) {
  const Content expected = write_all(kInOrder, options_);
  std::vector<fs::path> names;
  for (const auto& [name, bytes] : expected) {
    if (name.ends_with(".safetensors")) names.emplace_back(name);
  }
  for (size_t renamed = 0; renamed <= names.size(); ++renamed) {
    const TempFolder folder;
    const fs::path file = folder.path() / "m.safetensors";
    std::string journal;
    {
      Writer writer(file, plan(), options_);
      for (const TensorPlan& t : plan()) put(&writer, t);
      journal = file_bytes(folder.path() / "m.safetensors.journal");
      writer.finish();
    }
    folder.write("m.safetensors.journal", journal);
    fs::remove(folder.path() / "m.safetensors.index.json");
    for (size_t i = renamed; i < names.size(); ++i) {
      fs::path partial = folder.path() / names[i];
      partial += ".partial";
      fs::rename(folder.path() / names[i], partial);
    }
    Writer writer(file, plan(), resuming());
    for (const TensorPlan& t : plan()) EXPECT_TRUE(writer.done(t.name));
    writer.finish();
    EXPECT_EQ(content(folder.path()), expected) << renamed;
  }
}

TEST_P(Resume, ChecksEveryTensorAgainstTheJournal) {
  const Content expected = write_all(kInOrder, options_);
  const TempFolder folder;
  const fs::path file = folder.path() / "m.safetensors";
  {
    Writer writer(file, plan(), options_);
    for (const TensorPlan& t : plan()) put(&writer, t);
  }
  // The last byte of the first partial file belongs to some tensor.
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    if (!entry.path().string().ends_with(".partial")) continue;
    std::string bytes = file_bytes(entry.path());
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    folder.write(entry.path().filename().string(), bytes);
    break;
  }
  Writer writer(file, plan(), resuming());
  int missing = 0;
  for (const TensorPlan& t : plan()) {
    if (writer.done(t.name)) continue;
    ++missing;
    put(&writer, t);
  }
  EXPECT_EQ(missing, 1);
  writer.finish();
  EXPECT_EQ(content(folder.path()), expected);
}

TEST_P(Resume, WithoutALeftoverStartsFromTheBeginning) {
  const TempFolder folder;
  Writer writer(folder.path() / "m.safetensors", plan(), resuming());
  for (const TensorPlan& t : plan()) {
    EXPECT_FALSE(writer.done(t.name));
    put(&writer, t);
  }
  writer.finish();
  EXPECT_EQ(content(folder.path()), write_all(kInOrder, options_));
}

INSTANTIATE_TEST_SUITE_P(OneFileAndThreeShards, Resume, testing::Values(0, 50));

TEST(Writer, ATornLineOfTheJournalIsIgnored) {
  const TempFolder folder;
  const fs::path file = folder.path() / "m.safetensors";
  {
    Writer writer(file, plan());
    put(&writer, plan()[0]);
    put(&writer, plan()[1]);
  }
  const std::string journal = file_bytes(folder.path() / "m.safetensors.journal");
  for (size_t cut = 0; cut <= journal.size(); ++cut) {
    folder.write("m.safetensors.journal", journal.substr(0, cut));
    Writer writer(file, plan(), {.resume = true});
    const size_t whole = static_cast<size_t>(
        std::count(journal.begin(), journal.begin() + static_cast<std::ptrdiff_t>(cut), '\n'));
    EXPECT_EQ(writer.done("a.weight"), whole >= 2) << cut;
    EXPECT_EQ(writer.done("a.scale"), whole >= 3) << cut;
  }
}

TEST(Writer, RefusesToResumeAnotherPlan) {
  const TempFolder folder;
  const fs::path file = folder.path() / "m.safetensors";
  {
    const Writer writer(file, plan());
  }
  std::vector<TensorPlan> other = plan();
  other[0].shape = {5, 3};
  expect_error(ErrorCode::kUsage, {"belongs to another run", "m.safetensors.journal"},
               [&] { Writer(file, other, {.resume = true}); });
  expect_error(ErrorCode::kUsage, {"belongs to another run"},
               [&] { Writer(file, plan(), {.metadata = {{"x", "y"}}, .resume = true}); });
  EXPECT_NO_THROW(Writer(file, other));
}

TEST(Writer, RefusesASecondWriterOfTheSameFile) {
  const TempFolder folder;
  const Writer writer(folder.path() / "m.safetensors", plan());
  expect_error(ErrorCode::kUsage, {"another process is writing"},
               [&] { Writer(folder.path() / "m.safetensors", plan()); });
}

TEST(Writer, FindsAFullDiskBeforeAnyWorkAndLeavesNothing) {
  const TempFolder folder;
  expect_error(
      ErrorCode::kResources, {"not enough space on the disk", "m.safetensors.partial"},
      [&] { Writer(folder.path() / "m.safetensors", {{"w", DType::kU8, {int64_t{1} << 60}}}); });
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(Writer, FinishNamesWhatIsMissing) {
  const TempFolder folder;
  Writer writer(folder.path() / "m.safetensors", plan());
  put(&writer, plan()[0]);
  expect_error(ErrorCode::kInternal, {"have not been written", "a.scale", "m.safetensors"},
               [&] { writer.finish(); });
  for (size_t i = 1; i < plan().size(); ++i) put(&writer, plan()[i]);
  EXPECT_NO_THROW(writer.finish());
  EXPECT_THROW(writer.finish(), Error);
  EXPECT_THROW(put(&writer, plan()[0]), Error);
}

TEST(Writer, RejectsWhatWasNotPlanned) {
  const TempFolder folder;
  Writer writer(folder.path() / "m.safetensors", plan());
  const std::array<std::byte, 16> bytes{};
  expect_error(ErrorCode::kInternal, {"not planned", "tensor a.wieght", "did you mean a.weight"},
               [&] { writer.put("a.wieght", bytes); });
  expect_error(ErrorCode::kInternal, {"another size", "tensor a.weight", "expected 15", "got 16"},
               [&] { writer.put("a.weight", bytes); });
  expect_error(ErrorCode::kInternal,
               {"another dtype or shape", "expected I8 [3,5], got I8 [5,3]", "tensor a.weight"},
               [&] { writer.put("a.weight", Tensor::allocate(DType::kI8, {5, 3})); });
  expect_error(ErrorCode::kInternal, {"expected I8 [3,5], got U8 [3,5]"},
               [&] { writer.put("a.weight", Tensor::allocate(DType::kU8, {3, 5})); });
  put(&writer, plan()[0]);
  expect_error(ErrorCode::kInternal, {"written twice", "tensor a.weight"},
               [&] { put(&writer, plan()[0]); });
}

TEST(Writer, ATensorThatWasResumedMayBePutAgain) {
  const TempFolder folder;
  const fs::path file = folder.path() / "m.safetensors";
  {
    Writer writer(file, plan());
    put(&writer, plan()[0]);
    const std::string other(12, 'x');
    writer.put("a.scale", std::as_bytes(std::span(other.data(), other.size())));
  }
  Writer writer(file, plan(), {.resume = true});
  for (const TensorPlan& t : plan()) put(&writer, t);
  writer.finish();
  EXPECT_EQ(content(folder.path()), write_all(kInOrder, {}));
}

TEST(Writer, WritesAFileWithoutTensors) {
  const TempFolder folder;
  Writer writer(folder.path() / "m.safetensors", {});
  writer.finish();
  EXPECT_TRUE(WeightStore::open(folder.path()).tensors().empty());
}

}  // namespace
}  // namespace mezzotint
