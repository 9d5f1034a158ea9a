/* SPDX-License-Identifier: Apache-2.0 */
/* Findings as a list: severity and path on a line, evidence and fix below. */
#include "tools/ctl/view_scan.h"

#include "base/cleanup.h"
#include "base/str.h"

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static unsigned long long number_of(const json_t *o, const char *key)
{
	return (unsigned long long)json_integer_value(json_object_get(o, key));
}

static enum hf_term_style style_of(const char *severity)
{
	if (hf_streq(severity, "critical") || hf_streq(severity, "high"))
		return HF_TERM_BAD;
	return hf_streq(severity, "medium") ? HF_TERM_WARN : HF_TERM_DIM;
}

static void view_finding(const struct hf_term *t, const json_t *f)
{
	_cleanup_free_ char *path = hf_term_safe(text_of(f, "path"));
	_cleanup_free_ char *evidence = hf_term_safe(text_of(f, "evidence"));
	_cleanup_free_ char *fix = hf_term_safe(text_of(f, "fix"));
	_cleanup_free_ char *id = hf_term_safe(text_of(f, "id"));
	const char *severity = text_of(f, "severity");
	enum hf_term_style s = style_of(severity);

	(void)fprintf(t->f, "%s%-8.16s%s  ", hf_term_on(t, s), severity, hf_term_off(t, s));
	hf_term_wrap(t, HF_TERM_BOLD, path, 10, 10);
	(void)fprintf(t->f, "          ");
	hf_term_wrap(t, HF_TERM_PLAIN, evidence, 10, 10);
	if (hf_startswith(fix, "none needed"))
		return;
	(void)fprintf(t->f, "          ");
	hf_term_wrap(t, HF_TERM_DIM, fix, 10, 10);
}

static void view_check(const struct hf_term *t, const json_t *c)
{
	const char *result = text_of(c, "result");
	_cleanup_free_ char *line = NULL, *safe = NULL;

	if (hf_streq(result, "done"))
		return;
	line = hf_asprintf("%s: %s", hf_streq(result, "partial") ? "not all of it" : "not checked",
			   *text_of(c, "note") ? text_of(c, "note") : result);
	safe = hf_term_safe(line);
	(void)fprintf(t->f, "  %-12.20s", text_of(c, "id"));
	hf_term_wrap(t, HF_TERM_WARN, safe, 14, 14);
}

static const char *baseline_sentence(const char *word)
{
	if (hf_streq(word, "created"))
		return "the accepted state was made: what changes from now on is told";
	if (hf_streq(word, "renewed"))
		return "what is there now is the accepted state";
	if (hf_streq(word, "damaged"))
		return "the accepted state is damaged: holdfast scan --accept-baseline";
	return NULL;
}

void hf_view_scan(const struct hf_term *t, const json_t *result)
{
	const json_t *summary = json_object_get(result, "summary"), *item;
	const json_t *severities = json_object_get(summary, "severities");
	const char *sentence = baseline_sentence(text_of(summary, "baseline"));
	char lasted[HF_TERM_DURATION_SIZE];
	unsigned long long quiet = 0;
	size_t i;

	json_array_foreach(json_object_get(result, "findings"), i, item)
	{
		/* What is as it should be is counted; --json has it. */
		if (hf_streq(text_of(item, "severity"), "info"))
			quiet++;
		else
			view_finding(t, item);
	}
	hf_term_duration(number_of(summary, "duration_ms") * 1000, lasted);
	(void)fprintf(t->f,
		      "%llu critical, %llu high, %llu medium, %llu low, %llu for information; "
		      "%llu files read in %s\n",
		      number_of(severities, "critical"), number_of(severities, "high"),
		      number_of(severities, "medium"), number_of(severities, "low"),
		      number_of(severities, "info"), number_of(summary, "files"), lasted);
	if (quiet)
		(void)fprintf(t->f, "  what is for information only: --json\n");
	if (number_of(summary, "left_out"))
		(void)fprintf(t->f, "  %llu findings did not fit and are only counted\n",
			      number_of(summary, "left_out"));
	if (sentence)
		(void)fprintf(t->f, "  baseline    %s\n", sentence);
	json_array_foreach(json_object_get(summary, "checks"), i, item) view_check(t, item);
}

bool hf_view_scan_is_bad(const json_t *result)
{
	const json_t *severities =
		json_object_get(json_object_get(result, "summary"), "severities");

	return number_of(severities, "high") || number_of(severities, "critical");
}
