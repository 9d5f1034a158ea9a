/* A sample. */
/* Without a licence. */
