// The compiled part of fmt: Debian has it as a shared library only, which a wheel must not need.
#undef FMT_SHARED  // hidden, not exported
#include <fmt/format-inl.h>

#if FMT_VERSION / 10000 == 9
FMT_BEGIN_NAMESPACE
namespace detail {
template dragonbox::decimal_fp<float> dragonbox::to_decimal(float x) noexcept;
template dragonbox::decimal_fp<double> dragonbox::to_decimal(double x) noexcept;
template thousands_sep_result<char> thousands_sep_impl(locale_ref);
template char decimal_point_impl(locale_ref);
template void buffer<char>::append(const char*, const char*);
}  // namespace detail
FMT_END_NAMESPACE
#endif
