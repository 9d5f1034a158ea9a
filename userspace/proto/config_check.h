/* SPDX-License-Identifier: Apache-2.0 */
/* The forms that values of our configuration files have. Each returns NULL, or what it wants. */
#pragma once

const char *hf_check_environment(const char *text);
const char *hf_check_portal_url(const char *text);
const char *hf_check_public_url(const char *text);
const char *hf_check_proxy(const char *text);
const char *hf_check_no_proxy(const char *text);
const char *hf_check_pin(const char *text);
const char *hf_check_user(const char *text);
const char *hf_check_listen(const char *text);
const char *hf_check_loopback_listen(const char *text);
const char *hf_check_port(const char *text);
const char *hf_check_unit(const char *text);
const char *hf_check_drop_reason(const char *text);
const char *hf_check_absolute_path(const char *text);
