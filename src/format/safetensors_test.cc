#include "format/safetensors.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "format/expect_error.h"
#include "format/temp_folder.h"

namespace mezzotint {
namespace {

constexpr const char* kFile = "model.safetensors";

SafetensorsHeader parse(const std::string& file, int64_t file_size) {
  return parse_safetensors_header(std::as_bytes(std::span(file.data(), file.size())), file_size,
                                  kFile);
}

SafetensorsHeader parse(const std::string& file) {
  return parse(file, static_cast<int64_t>(file.size()));
}

// 8 bytes length that may lie, then text.
std::string with_length(uint64_t length, const std::string& rest) {
  std::string file;
  for (int i = 0; i < 8; ++i) file += static_cast<char>((length >> (8 * i)) & 0xff);
  return file + rest;
}

std::string deep(int levels) { return std::string(static_cast<size_t>(levels), '['); }

struct Hostile {
  const char* name;
  std::string file;
  const char* tensor;   // must be named in the message; nullptr: there is none to name
  const char* message;  // part of the message
};

std::ostream& operator<<(std::ostream& out, const Hostile& h) { return out << h.name; }

std::vector<Hostile> wrong_lengths() {
  return {
      {"EmptyFile", "", nullptr, "too short for a safetensors header: expected at least 10"},
      {"SevenBytes", "\x02", nullptr, "too short"},
      {"OnlyTheLength", with_length(2, ""), nullptr, "too short"},
      {"HeaderLongerThanFile", with_length(50'000'000, "{}"), nullptr,
       "the header is longer than the file: expected 50000000 bytes of header, got 2"},
      {"HeaderOneByteLonger", with_length(3, "{}"), nullptr, "longer than the file"},
      {"HeaderOver100Megabytes", with_length(100'000'001, "{}"), nullptr,
       "the header length is out of range: expected 2 to 100000000, got 100000001"},
      {"HeaderLengthAllOnes", with_length(UINT64_MAX, "{}"), nullptr, "out of range"},
      {"HeaderLengthSignBit", with_length(uint64_t{1} << 63, "{}"), nullptr, "out of range"},
      {"HeaderLengthZero", with_length(0, "{}"), nullptr, "out of range"},
      {"HeaderLengthOne", with_length(1, "{}"), nullptr, "out of range"},
      {"GitLfsPointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0", nullptr,
       "got a Git LFS pointer"},
      {"Gguf", "GGUF\x03\0\0\0\x10\0\0\0\0\0", nullptr, "got a GGUF file"},
      {"PyTorchZip", "PK\x03\x04 archive/data.pkl", nullptr, "got a zip archive"},
      {"WebPage", "<!DOCTYPE html><title>404</title>", nullptr, "got a web page"},
  };
}

std::vector<Hostile> wrong_json() {
  const auto file = [](const std::string& json, int64_t data = 0) {
    return safetensors_file(json, data);
  };
  return {
      {"NotAnObject", file("[]"), nullptr, "does not begin with '{'"},
      {"LeadingSpace", file(" {}"), nullptr, "does not begin with '{'"},
      {"Unclosed", file("{\"a\":{"), nullptr, "not valid JSON"},
      {"TrailingGarbage", file("{}x"), nullptr, "not valid JSON"},
      {"TrailingZeroBytes", file(std::string("{}\0\0", 4)), nullptr, "not valid JSON"},
      {"SecondDocument", file("{}{}"), nullptr, "not valid JSON"},
      {"InvalidUtf8Name", file("{\"\xff\xfe\":{}}"), nullptr, "not valid JSON"},
      {"RawControlCharacter", file("{\"a\nb\":{}}"), nullptr, "not valid JSON"},
      {"LoneSurrogate", file("{\"\\ud800\":{}}"), nullptr, "not valid JSON"},
      {"Comment", file("{/**/}"), nullptr, "not valid JSON"},
      {"DeepLists", file("{\"w\":" + deep(100'000)), "w", "wrong type"},
      {"DeepListsInUnknownField", file("{\"w\":{\"x\":" + deep(100'000)), "w", "unknown field"},
      {"DeepListsInMetadata", file("{\"__metadata__\":{\"x\":" + deep(100'000)), "__metadata__",
       "expected a string for \"x\", got a list"},
      {"DeepObjects", file("{\"w\":{\"shape\":{\"a\":{"), "w", "got an object"},
      {"MetadataIsNoObject", file("{\"__metadata__\":[]}"), "__metadata__", "an object of strings"},
      {"MetadataHoldsANumber", file("{\"__metadata__\":{\"x\":1}}"), "__metadata__",
       "expected a string for \"x\", got 1"},
      {"MetadataHoldsNull", file("{\"__metadata__\":{\"x\":null}}"), "__metadata__", "got null"},
      {"MetadataKeyTwice", file("{\"__metadata__\":{\"x\":\"\",\"x\":\"\"}}"), "__metadata__",
       "stands twice in the metadata: got x"},
      {"MetadataTwice", file("{\"__metadata__\":{},\"__metadata__\":{}}"), "__metadata__",
       "stands twice"},
  };
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":" + dtype + ",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}";
}

// One tensor "w" in an otherwise right file.
std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets,
                int64_t data_bytes) {
  return safetensors_file("{" + entry("w", dtype, shape, offsets) + "}", data_bytes);
}

std::vector<Hostile> wrong_fields() {
  const auto file = [](const std::string& json) { return safetensors_file(json, 0); };
  std::string rank33 = "[1";
  for (int i = 1; i < 33; ++i) rank33 += ",1";
  rank33 += "]";
  return {
      {"EntryIsAString", file("{\"w\":\"F32\"}"), "w", "got a string"},
      {"EntryIsNull", file("{\"w\":null}"), "w", "got null"},
      {"EntryIsEmpty", file("{\"w\":{}}"), "w", "lacks a field: expected dtype"},
      {"NoShape", file("{\"w\":{\"dtype\":\"F32\",\"data_offsets\":[0,0]}}"), "w",
       "lacks a field: expected shape"},
      {"NoOffsets", file("{\"w\":{\"dtype\":\"F32\",\"shape\":[0]}}"), "w",
       "lacks a field: expected data_offsets"},
      {"UnknownField", file("{\"w\":{\"dtype\":\"F32\",\"url\":\"x\"}}"), "w",
       "unknown field: expected dtype, shape and data_offsets only, got \"url\""},
      {"FieldTwice", file("{\"w\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}"), "w",
       "stands twice: got \"dtype\""},
      {"UnknownDtype", one("\"F31\"", "[1]", "[0,4]", 4), "w", "got \"F31\""},
      {"LowerCaseDtype", one("\"f32\"", "[1]", "[0,4]", 4), "w", "unknown dtype"},
      {"DtypeIsANumber", one("32", "[1]", "[0,4]", 4), "w", "a string for dtype, got 32"},
      {"DtypeIsAList", one("[]", "[1]", "[0,4]", 4), "w", "a string for dtype, got a list"},
      {"ShapeIsANumber", one("\"F32\"", "1", "[0,4]", 4), "w", "for shape, got 1"},
      {"ShapeHoldsAString", one("\"F32\"", "[\"1\"]", "[0,4]", 4), "w", "in shape, got a string"},
      {"ShapeHoldsAList", one("\"F32\"", "[[1]]", "[0,4]", 4), "w", "in shape, got a list"},
      {"NegativeDimension", one("\"F32\"", "[-1]", "[0,4]", 4), "w", "in shape, got -1"},
      {"FractionalDimension", one("\"F32\"", "[1.5]", "[0,4]", 4), "w", "in shape, got 1.5"},
      {"WholeButFloatDimension", one("\"F32\"", "[1.0]", "[0,4]", 4), "w", "got 1.0"},
      {"DimensionAbove63Bits", one("\"F32\"", "[9223372036854775808]", "[0,4]", 4), "w",
       "got 9223372036854775808"},
      {"DimensionAbove64Bits", one("\"F32\"", "[99999999999999999999999]", "[0,4]", 4), "w",
       "got 99999999999999999999999"},
      {"ProductOverflows", one("\"F32\"", "[4294967296,4294967296]", "[0,4]", 4), "w",
       "overflows: expected less than 2^63 bytes, got [4294967296,4294967296]"},
      {"BytesOverflow", one("\"F64\"", "[2305843009213693952]", "[0,8]", 8), "w", "overflows"},
      {"Rank33", one("\"U8\"", rank33, "[0,1]", 1), "w", "at most 32 dimensions"},
      {"OneOffset", one("\"F32\"", "[1]", "[0]", 4), "w", "not a range"},
      {"ThreeOffsets", one("\"F32\"", "[1]", "[0,4,8]", 4), "w", "two data_offsets"},
      {"OffsetsReversed", one("\"F32\"", "[1]", "[4,0]", 4), "w",
       "not a range: expected [begin,end] with begin <= end, got [4,0]"},
      {"NegativeOffset", one("\"F32\"", "[1]", "[-4,0]", 4), "w", "in data_offsets, got -4"},
      {"OffsetAbove63Bits", one("\"F32\"", "[1]", "[0,18446744073709551615]", 4), "w",
       "got 18446744073709551615"},
  };
}

std::vector<Hostile> wrong_ranges() {
  const std::string u8 = "\"U8\"";
  return {
      {"RangeTooShort", one("\"F32\"", "[2]", "[0,4]", 4), "w",
       "does not fit its shape and dtype: expected 8 bytes for F32 [2], got 4"},
      {"RangeTooLong", one("\"BF16\"", "[1]", "[0,4]", 4), "w", "expected 2 bytes for BF16 [1]"},
      {"OutOfRange", one(u8, "[16]", "[0,16]", 15), "w",
       "outside the file: expected at most 15 bytes of data, got an end at 16"},
      {"FarOutOfRange", one(u8, "[1]", "[9223372036854775806,9223372036854775807]", 4), "w",
       "outside the file"},
      {"HoleAtTheStart", one(u8, "[4]", "[4,8]", 8), "w", "unused: expected a begin at 0, got 4"},
      {"Overlap",
       safetensors_file(
           "{" + entry("v", u8, "[8]", "[0,8]") + "," + entry("w", u8, "[8]", "[4,12]") + "}", 12),
       "w", "two tensors overlap: expected a begin at 8, got 4"},
      {"SameRangeTwice",
       safetensors_file(
           "{" + entry("v", u8, "[8]", "[0,8]") + "," + entry("w", u8, "[8]", "[0,8]") + "}", 8),
       "w", "two tensors overlap"},
      {"Hole",
       safetensors_file(
           "{" + entry("v", u8, "[4]", "[0,4]") + "," + entry("w", u8, "[4]", "[8,12]") + "}", 12),
       "w", "bytes between two tensors are unused: expected a begin at 4, got 8"},
      {"DuplicateName",
       safetensors_file(
           "{" + entry("w", u8, "[4]", "[0,4]") + "," + entry("w", u8, "[4]", "[4,8]") + "}", 8),
       "w", "a tensor stands twice in the header"},
      {"DuplicateNameByEscape",
       safetensors_file(
           "{" + entry("w", u8, "[4]", "[0,4]") + "," + entry("\\u0077", u8, "[4]", "[4,8]") + "}",
           8),
       "w", "a tensor stands twice in the header"},
      {"TrailingData", one(u8, "[4]", "[0,4]", 5), nullptr,
       "longer than its tensors: expected 4 bytes of data, got 5"},
      {"DataWithoutTensors", safetensors_file("{}", 1), nullptr, "longer than its tensors"},
  };
}

class HostileHeader : public testing::TestWithParam<Hostile> {};

TEST_P(HostileHeader, IsOneClearError) {
  const Hostile& h = GetParam();
  const std::string tensor = h.tensor == nullptr ? "" : "tensor " + std::string(h.tensor);
  expect_error(ErrorCode::kInput, {h.message, tensor, kFile}, [&] { parse(h.file); });
}

std::string name_of(const testing::TestParamInfo<Hostile>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Lengths, HostileHeader, testing::ValuesIn(wrong_lengths()), name_of);
INSTANTIATE_TEST_SUITE_P(Json, HostileHeader, testing::ValuesIn(wrong_json()), name_of);
INSTANTIATE_TEST_SUITE_P(Fields, HostileHeader, testing::ValuesIn(wrong_fields()), name_of);
INSTANTIATE_TEST_SUITE_P(Ranges, HostileHeader, testing::ValuesIn(wrong_ranges()), name_of);

const std::string kGood = "{\"__metadata__\":{\"format\":\"pt\"}," +
                          entry("b", "\"I8\"", "[3]", "[8,11]") + "," +
                          entry("a", "\"F32\"", "[1,2]", "[0,8]") + "}";

TEST(SafetensorsHeader, ReadsTensorsByOffsetAndMetadata) {
  const SafetensorsHeader h = parse(safetensors_file(kGood, 11));
  ASSERT_EQ(h.tensors.size(), 2u);
  EXPECT_EQ(h.tensors[0].name, "a");
  EXPECT_EQ(h.tensors[0].dtype, DType::kF32);
  EXPECT_EQ(h.tensors[0].shape, (Shape{1, 2}));
  EXPECT_EQ(h.tensors[1].begin, 8);
  EXPECT_EQ(h.tensors[1].end, 11);
  EXPECT_EQ(h.metadata.at("format"), "pt");
  EXPECT_EQ(h.data_start, static_cast<int64_t>(8 + kGood.size()));
}

TEST(SafetensorsHeader, TakesScalarsEmptyTensorsRank32AndNoTensorAtAll) {
  EXPECT_EQ(parse(one("\"F64\"", "[]", "[0,8]", 8)).tensors[0].shape, Shape{});
  EXPECT_EQ(parse(one("\"F32\"", "[0,5]", "[0,0]", 0)).tensors[0].end, 0);
  std::string rank32 = "[1";
  for (int i = 1; i < 32; ++i) rank32 += ",1";
  EXPECT_EQ(parse(one("\"U8\"", rank32 + "]", "[0,1]", 1)).tensors[0].shape.size(), 32u);
  EXPECT_TRUE(parse(safetensors_file("{}", 0)).tensors.empty());
}

TEST(SafetensorsHeader, TakesPaddingAndEveryDtype) {
  EXPECT_EQ(parse(safetensors_file(kGood + "     ", 11)).tensors.size(), 2u);
  for (int i = 0; i <= static_cast<int>(DType::kF8E8M0); ++i) {
    const auto dtype = static_cast<DType>(i);
    const int64_t bytes = dtype_size(dtype);
    const std::string file = one("\"" + std::string(dtype_name(dtype)) + "\"", "[1]",
                                 "[0," + std::to_string(bytes) + "]", bytes);
    EXPECT_EQ(parse(file).tensors[0].dtype, dtype);
  }
}

// The table above has teeth: of a right file, every shorter prefix and every longer file is wrong.
TEST(SafetensorsHeader, RejectsEveryTruncationOfARightFile) {
  const std::string good = safetensors_file(kGood, 11);
  ASSERT_NO_THROW(parse(good));
  for (size_t n = 0; n < good.size(); ++n) {
    EXPECT_THROW(parse(good.substr(0, n)), Error) << n;
  }
  EXPECT_THROW(parse(good + "x"), Error);
}

TEST(SafetensorsHeader, NeedsNoDataBytesToBePresent) {
  const std::string good = safetensors_file(kGood, 11);
  const std::string prefix = good.substr(0, good.size() - 11);
  EXPECT_NO_THROW(parse(prefix, static_cast<int64_t>(good.size())));
  EXPECT_THROW(parse(prefix.substr(0, prefix.size() - 1), static_cast<int64_t>(good.size())),
               Error);
}

TEST(SafetensorsHeader, NamesWithTerminalEscapesAreShownEscaped) {
  expect_error(ErrorCode::kInput, {"tensor a\\x1b[2J"},
               [] { parse(safetensors_file("{\"a\\u001b[2J\":{}}", 0)); });
}

TEST(SafetensorsHeader, ManyTensorsOfOneNameTakeNoQuadraticTime) {
  std::string json = "{";
  for (int i = 0; i < 100'000; ++i) {
    json += (i == 0 ? "" : ",") + entry("w", "\"U8\"", "[0]", "[0,0]");
  }
  expect_error(ErrorCode::kInput, {"stands twice", "tensor w"},
               [&] { parse(safetensors_file(json + "}", 0)); });
}

}  // namespace
}  // namespace mezzotint
