#include "kernels/layouts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/int8_vnni_layout.h"
#include "kernels/test_data.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

constexpr int64_t kTails[] = {1, 2, 3, 4, 31, 32, 33, 64, 65};

constexpr Element kElements[] = {Element::kF32,  Element::kBF16, Element::kF16, Element::kInt8,
                                 Element::kInt4, Element::kE4M3, Element::kE2M1};

std::vector<int8_t> random_bytes(int64_t count) {
  return testing_data::codes(count, static_cast<uint32_t>(count));
}

WeightCodes weight(Element element, int64_t n, int64_t k, const std::vector<int8_t>& bytes) {
  return {element, n, k, reinterpret_cast<const std::byte*>(bytes.data())};
}

TEST(Layouts, UnpackGivesTheBytesOfTheFileBackForEveryRowAndTail) {
  int tried = 0;
  for (const LayoutRow& layout : layout_rows()) {
    for (Element element : kElements) {
      if (layout.payload_bytes(1, 1, element) == 0) continue;
      for (int64_t n : kTails) {
        for (int64_t k : kTails) {
          const auto bytes = random_bytes(n * element_row_bytes(element, k));
          const Buffer blob = pack_weight(layout, weight(element, n, k, bytes), 0);
          const Tensor back = unpack_weight(blob);
          ASSERT_EQ(back.dtype(), element_dtype(element));
          ASSERT_EQ(back.dim(0), n);
          ASSERT_EQ(back.byte_size(), static_cast<int64_t>(bytes.size()));
          ASSERT_EQ(std::memcmp(back.raw(), bytes.data(), bytes.size()), 0)
              << layout.name << " " << n << "x" << k;
          ++tried;
        }
      }
    }
  }
  // int8 and int4 in three layouts, bf16, e4m3 and e2m1 in two each, f32 and f16 in one
  EXPECT_EQ(tried, 14 * 9 * 9);
}

TEST(Layouts, PackingTwiceGivesTheSameBytes) {
  const auto bytes = random_bytes(33 * 5);
  const Buffer a =
      pack_weight(layout_row(LayoutId::kInt8Vnni), weight(Element::kInt8, 33, 5, bytes), 0);
  const Buffer b =
      pack_weight(layout_row(LayoutId::kInt8Vnni), weight(Element::kInt8, 33, 5, bytes), 0);
  EXPECT_TRUE(std::ranges::equal(a.bytes(), b.bytes()));  // padding included
}

TEST(Int8VnniLayout, EveryCodeHasItsOwnByte) {
  for (int64_t n_total : {1, 33}) {
    for (int64_t k_total : {1, 5, 64}) {
      std::vector<int64_t> places;
      for (int64_t n = 0; n < n_total; ++n) {
        for (int64_t k = 0; k < k_total; ++k) places.push_back(vnni_offset(n, k, k_total));
      }
      std::sort(places.begin(), places.end());
      EXPECT_EQ(std::unique(places.begin(), places.end()), places.end());
      EXPECT_LT(places.back(), int8_vnni_bytes(n_total, k_total, Element::kInt8));
    }
  }
}

TEST(Int8VnniLayout, HoldsCodesPlus128) {
  const std::vector<int8_t> codes = {-128, -1, 0, 1, 127};
  std::vector<std::byte> payload(static_cast<size_t>(int8_vnni_bytes(1, 5, Element::kInt8)));
  pack_int8_vnni(weight(Element::kInt8, 1, 5, codes), payload.data());
  EXPECT_EQ(payload[0], std::byte{0});
  EXPECT_EQ(payload[1], std::byte{127});
  EXPECT_EQ(payload[2], std::byte{128});
  EXPECT_EQ(payload[3], std::byte{129});
  EXPECT_EQ(payload[128], std::byte{255});  // k = 4 begins the second step
  EXPECT_EQ(payload[129], std::byte{128});  // padding is the code 0
}

class HostileBlob : public testing::Test {
 protected:
  HostileBlob() {
    const auto bytes = random_bytes(33 * 5);
    blob_ = pack_weight(layout_row(LayoutId::kInt8Vnni), weight(Element::kInt8, 33, 5, bytes), 0);
    std::memcpy(&header_, blob_.data(), sizeof header_);
  }

  // The blob with `header_` in front; checks that it is refused and that the message names `what`.
  void expect_refused(const std::string& what) {
    std::memcpy(blob_.mutable_data(), &header_, sizeof header_);
    expect_refused(blob_, what);
  }
  static void expect_refused(const Buffer& blob, const std::string& what) {
    try {
      packed_header(blob);
      FAIL() << "accepted, expected: " << what;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInput);
      EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << error.what();
    }
  }

  Buffer blob_;
  PackedHeader header_;
};

TEST_F(HostileBlob, IsAcceptedUnchanged) { EXPECT_EQ(packed_header(blob_).n, 33); }

TEST_F(HostileBlob, WrongMagic) {
  header_.magic[3] = 'X';
  expect_refused("wrong magic");
}

TEST_F(HostileBlob, UnknownLayout) {
  header_.layout = 77;
  expect_refused("unknown layout");
}

TEST_F(HostileBlob, WrongVersion) {
  header_.version = 2;
  expect_refused("wrong version of layout int8_vnni: expected 1, got 2");
}

TEST_F(HostileBlob, UnknownElement) {
  header_.element = 200;
  expect_refused("unknown element");
}

TEST_F(HostileBlob, ElementThatTheLayoutDoesNotHold) {
  header_.element = static_cast<uint32_t>(Element::kF32);
  expect_refused("wrong element");
}

TEST_F(HostileBlob, ShapesThatAreNegativeHugeOrOverflow) {
  constexpr int64_t kHuge = int64_t{1} << 62;
  const Shape shapes[] = {{0, 5},         {33, 0},    {-33, 5},  {33, -5},
                          {kHuge, kHuge}, {kHuge, 4}, {4, kHuge}};
  for (const Shape& shape : shapes) {
    header_.n = shape[0];
    header_.k = shape[1];
    expect_refused("wrong shape");
  }
}

TEST_F(HostileBlob, SizeThatDoesNotFitTheShape) {
  header_.n = 65;
  expect_refused("wrong size");
  header_.n = 33;
  header_.payload_bytes += 1;
  expect_refused("wrong size");
  header_.payload_bytes = -1;
  expect_refused("wrong size");
}

TEST_F(HostileBlob, GroupLongerThanTheRow) {
  header_.group = 6;
  expect_refused("wrong group");
}

TEST_F(HostileBlob, TruncatedPayloadAndHeader) {
  expect_refused(blob_.slice(0, blob_.size() - 1), "wrong size");
  expect_refused(blob_.slice(0, 63), "too short");
  expect_refused(Buffer(), "too short");
}

TEST_F(HostileBlob, MisalignedMemory) {
  Buffer larger = Buffer::allocate(blob_.size() + 8);
  std::memcpy(larger.mutable_data() + 8, blob_.data(), static_cast<size_t>(blob_.size()));
  expect_refused(Buffer::borrow(larger.mutable_data() + 8, blob_.size(), nullptr), "misaligned");
}

TEST_F(HostileBlob, BorrowedMemoryServesLikeOwned) {
  const Buffer borrowed = Buffer::borrow_const(blob_.data(), blob_.size());
  EXPECT_EQ(packed_payload(borrowed), blob_.data() + 64);
  EXPECT_EQ(unpack_weight(borrowed).byte_size(), 33 * 5);
}

}  // namespace
}  // namespace mezzotint
