/* SPDX-License-Identifier: Apache-2.0 */
/* The web page's files as they are and gzipped; made by ui.mk, served by ui.c. */

	.macro asset symbol, file
	.global hf_ui_\symbol
	.global hf_ui_\symbol\()_end
	.global hf_ui_\symbol\()_gz
	.global hf_ui_\symbol\()_gz_end
hf_ui_\symbol:
	.incbin "\file"
hf_ui_\symbol\()_end:
hf_ui_\symbol\()_gz:
	.incbin "\file\().gz"
hf_ui_\symbol\()_gz_end:
	.byte 0
	.endm

	.section .rodata
	asset index_html, "index.html"
	asset app_js, "app.js"
	asset lib_js, "lib.js"
	asset endpoints_js, "endpoints.js"
	asset app_css, "app.css"
	asset icon_svg, "icon.svg"

	.section .note.GNU-stack, "", @progbits
