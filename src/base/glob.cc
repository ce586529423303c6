#include "base/glob.h"

#include <cstdint>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

constexpr std::string_view kRegexPrefix = "re:";

// std::regex recurses once per character; no layer name is as long as this.
constexpr size_t kMaxRegexName = 4096;

// The index behind the ']' that closes the set opened at `open`, or npos. A ']' that comes first
// ("[]a]", "[!]a]") belongs to the set.
size_t end_of_set(std::string_view pattern, size_t open) {
  size_t i = open + 1;
  if (i < pattern.size() && pattern[i] == '!') ++i;
  const size_t close = pattern.find(']', i + 1);
  return close == std::string_view::npos ? close : close + 1;
}

// `set` is the text between the brackets.
bool set_contains(std::string_view set, char c) {
  const bool negated = set.front() == '!';
  if (negated) set.remove_prefix(1);
  bool found = false;
  for (size_t i = 0; i < set.size(); ++i) {
    if (i + 2 < set.size() && set[i + 1] == '-') {
      found = found || (set[i] <= c && c <= set[i + 2]);
      i += 2;
    } else {
      found = found || set[i] == c;
    }
  }
  return found != negated;
}

// Matches one name character at pattern[*p]; moves *p behind what it used.
bool match_one(std::string_view pattern, size_t* p, char c) {
  if (pattern[*p] == '[') {
    const size_t end = end_of_set(pattern, *p);
    const bool ok = set_contains(pattern.substr(*p + 1, end - *p - 2), c);
    *p = end;
    return ok;
  }
  const bool ok = pattern[*p] == '?' || pattern[*p] == c;
  ++*p;
  return ok;
}

// Only the last '*' is ever retried, so the time is at most |pattern| * |name|.
bool glob_matches(std::string_view pattern, std::string_view name) {
  size_t p = 0;
  size_t n = 0;
  size_t star = std::string_view::npos;
  size_t star_name = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_name = n;
      continue;
    }
    if (p < pattern.size() && match_one(pattern, &p, name[n])) {
      ++n;
      continue;
    }
    if (star == std::string_view::npos) return false;
    p = star + 1;
    n = ++star_name;
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

void check_glob(const std::string& pattern) {
  for (size_t i = 0; i < pattern.size();) {
    const size_t next = pattern[i] == '[' ? end_of_set(pattern, i) : i + 1;
    if (next == std::string::npos) {
      throw Error(ErrorCode::kUsage, "the pattern has a '[' without a ']'",
                  {.found = "\"" + pattern + "\"",
                   .fix = "close it, or write re:REGEX for a regular expression"});
    }
    i = next;
  }
}

std::shared_ptr<const std::regex> compile(const std::string& text) {
  try {
    return std::make_shared<const std::regex>(text.substr(kRegexPrefix.size()),
                                              std::regex::ECMAScript);
  } catch (const std::regex_error& e) {
    throw Error(ErrorCode::kUsage, "the pattern is not a valid regular expression",
                {.expected = "ECMAScript syntax",
                 .found = "\"" + text + "\" (" + e.what() + ")",
                 .fix = "correct it, or leave out re: for a glob ('*' crosses dots)"});
  }
}

}  // namespace

NamePattern::NamePattern(std::string_view text) : text_(text) {
  if (text_.empty()) throw Error(ErrorCode::kUsage, "a pattern is empty");
  if (text.starts_with(kRegexPrefix)) {
    regex_ = compile(text_);
  } else {
    check_glob(text_);
  }
}

bool NamePattern::matches(std::string_view name) const {
  if (regex_ == nullptr) return glob_matches(text_, name);
  if (name.size() > kMaxRegexName) {
    throw Error(ErrorCode::kInput, "a name is too long for a regular expression",
                {.layer = std::string(name.substr(0, 80)) + "...",
                 .expected = "at most " + std::to_string(kMaxRegexName) + " bytes",
                 .found = std::to_string(name.size()),
                 .fix = "use a glob"});
  }
  return std::regex_match(name.begin(), name.end(), *regex_);
}

std::string literal_pattern(std::string_view name) {
  std::string pattern;
  for (const char c : name) {
    const bool special = c == '*' || c == '?' || c == '[';
    pattern += special ? std::string{'[', c, ']'} : std::string{c};
  }
  if (pattern.starts_with(kRegexPrefix)) pattern.replace(0, 1, "[r]");
  return pattern;
}

}  // namespace mezzotint
