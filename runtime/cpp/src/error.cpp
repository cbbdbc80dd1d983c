#include "error.h"

#include <exception>
#include <new>

namespace keepstep::internal {

void throw_bundle_error(int rule, std::string message) {
    if (rule != 0) message += " (rule " + std::to_string(rule) + ")";
    throw Error{StatusCode::bundle_error, rule, std::move(message)};
}

void throw_input_error(std::string message) {
    throw Error{StatusCode::input_error, 0, std::move(message)};
}

void throw_backend_error(std::string message) {
    throw Error{StatusCode::backend_error, 0, std::move(message)};
}

void throw_result_error(std::string message) {
    throw Error{StatusCode::result_error, 0, std::move(message)};
}

void throw_cancelled(std::size_t done) {
    throw Error{StatusCode::cancelled, 0,
                "the run was ended by its progress callback after " + std::to_string(done) +
                    " calls"};
}

Status caught() noexcept {
    // These texts need no memory of their own: there may be none left.
    try {
        throw;
    } catch (Error& error) {
        return {error.code, error.rule, std::move(error.message)};
    } catch (const std::bad_alloc&) {
        return {StatusCode::backend_error, 0, "out of memory"};
    } catch (const std::exception& error) {
        try {
            return {StatusCode::internal_error, 0, error.what()};
        } catch (...) {
            return {StatusCode::backend_error, 0, "out of memory"};
        }
    } catch (...) {
        return {StatusCode::internal_error, 0, "unknown fault"};
    }
}

}  // namespace keepstep::internal
