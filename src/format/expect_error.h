// For tests: an error must have this code and say these things.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>

#include "mezzotint/error.h"

namespace mezzotint {

inline void expect_error(ErrorCode code, std::initializer_list<std::string_view> fragments,
                         const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    const std::string_view what = e.what();
    for (const std::string_view fragment : fragments) {
      EXPECT_NE(what.find(fragment), std::string_view::npos)
          << "no \"" << fragment << "\" in: " << what;
    }
    return;
  }
  std::string all;
  for (const std::string_view fragment : fragments) all += std::string(fragment) + " ";
  ADD_FAILURE() << "no error, expected: " << all;
}

}  // namespace mezzotint
