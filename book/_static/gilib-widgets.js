// Loaded after require.js and before the widget scripts: they look for their fonts beside their own files, seen from the root of the site.
(function () {
  "use strict";
  const root = new URL(document.documentElement.dataset.content_root || "./", document.baseURI);
  window.require.config({ baseUrl: new URL("_static/vendor/", root).href });
})();
