#include <gtest/gtest.h>

#include <cstring>
#include <optional>

#include "base/buffer_reuse.h"
#include "mezzotint/error.h"
#include "mezzotint/tensor.h"

namespace mezzotint {
namespace {

TEST(Buffer, IsAlignedToACacheLineAndLargeOnesToAHugePage) {
  for (const int64_t bytes : {0, 1, 63, 64, 65, 100'000}) {
    const Buffer b = Buffer::allocate(bytes);
    EXPECT_EQ(b.size(), bytes);
    EXPECT_TRUE(b.owned());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(b.data()) % 64, 0u);
  }
#if !defined(__SANITIZE_ADDRESS__)
  const Buffer large = Buffer::allocate((5 << 20) + 3);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(large.data()) % (2 << 20), 0u);
#endif
}

TEST(Buffer, EveryByteOfALargeOneCanBeWritten) {
  const Buffer b = Buffer::allocate((4 << 20) + 17);
  std::memset(b.mutable_data(), 0x42, static_cast<size_t>(b.size()));
  EXPECT_EQ(b.bytes().back(), std::byte{0x42});
}

#if !defined(__SANITIZE_ADDRESS__)  // which has no large buffers
constexpr int64_t kLarge = int64_t{8} << 20;

// What stands at the beginning of a new buffer: zeros, or what the last one left.
int first_byte(int64_t bytes) { return std::to_integer<int>(Buffer::allocate(bytes).data()[0]); }
void leave(int64_t bytes, std::byte value) { Buffer::allocate(bytes).mutable_data()[0] = value; }

TEST(BufferReuse, GivesTheMemoryOfTheLastLargeBufferToTheNext) {
  leave(kLarge, std::byte{1});
  EXPECT_EQ(first_byte(kLarge), 0) << "nothing asked for it";
  {
    const BufferReuse reuse(4 * kLarge);
    leave(kLarge, std::byte{2});
    EXPECT_EQ(first_byte(kLarge), 2);
    EXPECT_EQ(first_byte(kLarge - 1), 2) << "nearly as large";
    EXPECT_EQ(first_byte(kLarge / 2), 0) << "half of it would lie idle";
    EXPECT_EQ(first_byte(kLarge + 1), 0) << "too small";
    EXPECT_EQ(first_byte(kLarge), 2) << "it still waits";
    const Buffer taken = Buffer::allocate(kLarge);
    EXPECT_EQ(first_byte(kLarge), 0) << "it is in use";
  }
  EXPECT_EQ(first_byte(kLarge), 0) << "given back at the end";
}

TEST(BufferReuse, KeepsNoMoreThanItMay) {
  std::optional<BufferReuse> more(std::in_place, kLarge);
  {
    const BufferReuse reuse(kLarge);
    Buffer one = Buffer::allocate(kLarge), two = Buffer::allocate(kLarge);
    Buffer three = Buffer::allocate(kLarge);
    for (Buffer* b : {&one, &two, &three}) b->mutable_data()[0] = std::byte{3};
    one = two = three = {};
    const Buffer again = Buffer::allocate(kLarge), another = Buffer::allocate(kLarge);
    EXPECT_EQ(again.data()[0], std::byte{3});
    EXPECT_EQ(another.data()[0], std::byte{3});
    EXPECT_EQ(first_byte(kLarge), 0) << "two of three were kept";
  }
  more.reset();
  EXPECT_EQ(first_byte(kLarge), 0);
}

TEST(BufferReuse, WhatCameLastTakesThePlaceOfWhatWaitsLongest) {
  const BufferReuse reuse(3 * kLarge);
  {
    const Buffer one = Buffer::allocate(kLarge), two = Buffer::allocate(kLarge);
    one.mutable_data()[0] = two.mutable_data()[0] = std::byte{5};
  }
  leave(2 * kLarge, std::byte{6});
  EXPECT_EQ(first_byte(2 * kLarge), 6);
  const Buffer left = Buffer::allocate(kLarge);
  EXPECT_EQ(left.data()[0], std::byte{5});
  EXPECT_EQ(first_byte(kLarge), 0) << "one of the two had to go";
}

TEST(BufferReuse, MayEndBeforeABufferThatItGave) {
  Buffer left;
  {
    const BufferReuse reuse(kLarge);
    leave(kLarge, std::byte{4});
    left = Buffer::allocate(kLarge);
  }
  EXPECT_EQ(left.data()[0], std::byte{4});
  left = {};
  EXPECT_EQ(first_byte(kLarge), 0);
}
#endif

TEST(Buffer, TooLargeIsAResourceError) {
  for (const int64_t bytes : {int64_t{1} << 60, INT64_MAX}) {
    try {
      Buffer::allocate(bytes);
      FAIL();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kResources);
    }
  }
}

TEST(Buffer, BorrowsWithoutCopyAndKeepsTheOwnerAlive) {
  auto owner = std::make_shared<int>(7);
  std::weak_ptr<int> watch = owner;
  {
    const Buffer b = Buffer::borrow(owner.get(), sizeof(int), owner);
    owner.reset();
    EXPECT_FALSE(watch.expired());
    EXPECT_FALSE(b.owned());
    *reinterpret_cast<int*>(b.mutable_data()) = 8;
  }
  EXPECT_TRUE(watch.expired());
}

TEST(Buffer, ConstBytesCannotBeWritten) {
  const int value = 7;
  const Buffer b = Buffer::borrow_const(&value, sizeof(value));
  EXPECT_TRUE(b.read_only());
  EXPECT_THROW(b.mutable_data(), Error);
  EXPECT_THROW(b.slice(0, 2).mutable_data(), Error);
}

TEST(Buffer, SlicesShareOwnershipAndAreChecked) {
  Buffer slice;
  {
    const Buffer b = Buffer::allocate(100);
    std::memset(b.mutable_data(), 1, 100);
    b.mutable_data()[40] = std::byte{9};
    slice = b.slice(40, 60);
    EXPECT_NO_THROW(b.slice(100, 0));
    EXPECT_THROW(b.slice(40, 61), Error);
    EXPECT_THROW(b.slice(-1, 1), Error);
    EXPECT_THROW(b.slice(1, INT64_MAX), Error);
  }
  EXPECT_EQ(slice.data()[0], std::byte{9});
  EXPECT_EQ(slice.size(), 60);
}

}  // namespace
}  // namespace mezzotint
