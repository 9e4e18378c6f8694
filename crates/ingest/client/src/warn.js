/** What went wrong here must not disturb the page. @param {unknown} error */
export function warn(error) {
  console.warn("tidegate:", error);
}
