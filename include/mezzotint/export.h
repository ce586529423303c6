// Marks what libmezzotint.so exports. Everything else is hidden.
#pragma once

#if defined(__GNUC__)
#define MZ_API __attribute__((visibility("default")))
#else
#define MZ_API
#endif
