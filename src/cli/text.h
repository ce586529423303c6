// Numbers and names as people read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mezzotint::cli {

using NamedTexts = std::vector<std::pair<std::string, std::string>>;

// Decimal units as file managers and model hubs use them: "999 B", "18.7 MB", "23.8 GB".
std::string human_bytes(int64_t bytes);
// "0:51", "12:05", "1:02:30".
std::string human_clock(double seconds);
// "85 ms", "3.2 s", "4 min 10 s".
std::string human_seconds(double seconds);
std::string human_count(int64_t count);  // "9 338 880"

// The argument as a POSIX shell needs it; unchanged where no quoting is needed.
std::string shell_quoted(std::string_view argument);

// Control characters written as \x1b: what comes from a file must not drive the terminal.
std::string printable(std::string_view text);

// Shortened in the middle to at most `columns` bytes: "single_trans...proj_mlp".
std::string ellipsized(std::string_view text, size_t columns);

std::string plural(int64_t count, std::string_view noun);  // "1 layer", "2 layers"

}  // namespace mezzotint::cli
