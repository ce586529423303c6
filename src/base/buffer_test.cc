#include <gtest/gtest.h>

#include <cstring>

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
