// Patterns for layer names.
//
//   NamePattern p("blocks.*.attn");      // '*' crosses dots, '?' is one character, [a-c] [!0-9]
//   NamePattern q("re:blocks\\.[0-4]\\..*");
//   p.matches("blocks.3.attn");          // the whole name, case-sensitive
//
// Immutable; may be used from several threads.
#pragma once

#include <memory>
#include <regex>
#include <string>
#include <string_view>

namespace mezzotint {

class NamePattern {
 public:
  // Throws Error(kUsage) on a bad regular expression or an unclosed '['.
  explicit NamePattern(std::string_view text);

  bool matches(std::string_view name) const;
  const std::string& text() const noexcept { return text_; }

 private:
  std::string text_;
  std::shared_ptr<const std::regex> regex_;  // null: glob
};

// The pattern that matches this name alone.
std::string literal_pattern(std::string_view name);

}  // namespace mezzotint
