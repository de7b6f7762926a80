//! What callers of Gemini call the parts of a request.

use crate::dialect::words::Words;

pub(super) const WORDS: Words = Words {
    turns: "contents",
    parts: "parts",
    system: "systemInstruction",
    system_parts: "parts",
    results: "functionResponse.parts",
    members: &[
        ("messages", &["contents"]),
        ("max_tokens", &["generationConfig.maxOutputTokens"]),
        ("temperature", &["generationConfig.temperature"]),
        ("top_p", &["generationConfig.topP"]),
        ("top_k", &["generationConfig.topK"]),
        ("seed", &["generationConfig.seed"]),
        ("stop", &["generationConfig.stopSequences"]),
        ("n", &["generationConfig.candidateCount"]),
        ("presence_penalty", &["generationConfig.presencePenalty"]),
        ("frequency_penalty", &["generationConfig.frequencyPenalty"]),
        ("logprobs", &["generationConfig.responseLogprobs"]),
        ("top_logprobs", &["generationConfig.logprobs"]),
        ("service_tier", &["serviceTier"]),
        ("tool_choice", &["toolConfig.functionCallingConfig"]),
        ("response_format", &FORMAT),
        ("response_format.json_schema", &FORMAT),
        ("response_format.json_schema.schema", &FORMAT),
        ("reasoning", &["generationConfig.thinkingConfig"]),
        (
            "reasoning.max_tokens",
            &["generationConfig.thinkingConfig.thinkingBudget", "generationConfig.thinkingConfig.thinkingLevel"],
        ),
        ("reasoning.exclude", &["generationConfig.thinkingConfig.includeThoughts"]),
        ("reasoning.show", &["generationConfig.thinkingConfig.includeThoughts"]),
        ("reasoning.summary", &["generationConfig.thinkingConfig.includeThoughts"]),
        (
            "reasoning_effort",
            &["generationConfig.thinkingConfig.thinkingLevel", "generationConfig.thinkingConfig.thinkingBudget"],
        ),
    ],
    within: &[
        (".function.arguments", &[".functionCall.args"]),
        (".function.name", &[".functionCall.name"]),
        (".file.filename", &[".inlineData.displayName", ".fileData.displayName"]),
        (".file.file_id", &[".fileData.fileUri"]),
        (".signature", &[".thoughtSignature"]),
        (".custom", &[".functionCall"]),
        (".name", &[".functionResponse.name"]),
        (".tool_call_id", &[".functionResponse.id", ".functionResponse.name"]),
        // A medium by itself is the member that has its bytes or its address.
        ("", &[".inlineData", ".fileData", ".functionResponse", ".functionCall"]),
    ],
    tools: &[
        (".function.parameters", &[".parametersJsonSchema", ".parameters"]),
        (".function.name", &[".name"]),
        (".function.description", &[".description"]),
    ],
    declarations: &["functionDeclarations", "function_declarations"],
    inner: "generateContentRequest",
    proto: true,
    ..Words::PLAIN
};

const FORMAT: [&str; 3] =
    ["generationConfig.responseJsonSchema", "generationConfig.responseSchema", "generationConfig.responseMimeType"];
