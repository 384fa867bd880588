import { defineConfig, globalIgnores } from "eslint/config";
import tseslint from "typescript-eslint";

export default defineConfig(
  globalIgnores(["src/gen/", "dist/", "out/", "eslint.config.js"]),
  tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { project: "./tsconfig.json" } },
    rules: {
      // Numbers are what they look like in a text.
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      // () => work() where nobody wants the result.
      "@typescript-eslint/no-confusing-void-expression": "off",
      // The promises of node:test's test() are the runner's.
      "@typescript-eslint/no-floating-promises": [
        "error",
        { allowForKnownSafeCalls: [{ from: "package", name: "test", package: "node:test" }] },
      ],
    },
  },
);
