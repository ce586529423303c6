#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "mezzotint/descriptor.h"
#include "mezzotint/weights.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

// Opens every file of testdata/hostile/KIND; returns how many there were.
int open_all(const char* kind, const std::function<void(const fs::path&)>& open) {
  int count = 0;
  for (const auto& entry :
       fs::directory_iterator(fs::path(MZ_SOURCE_DIR) / "testdata/hostile" / kind)) {
    SCOPED_TRACE(entry.path().string());
    expect_error(ErrorCode::kInput, {entry.path().filename().string()},
                 [&] { open(entry.path()); });
    ++count;
  }
  return count;
}

TEST(HostileFiles, EverySafetensorsFileIsOneErrorNamingIt) {
  EXPECT_EQ(open_all("safetensors", [](const fs::path& file) { WeightStore::open(file); }), 30);
}

TEST(HostileFiles, EveryIndexIsOneErrorNamingIt) {
  EXPECT_EQ(open_all("index", [](const fs::path& file) { WeightStore::open(file); }), 14);
}

TEST(HostileFiles, EveryDescriptorIsOneErrorNamingIt) {
  EXPECT_EQ(open_all("descriptor", [](const fs::path& file) { read_descriptor(file); }), 11);
}

}  // namespace
}  // namespace mezzotint
