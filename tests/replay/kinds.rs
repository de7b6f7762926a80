//! Kinds of parts and members that a dialect may hand on as its own: each is documented by a provider and has no place
//! in the IR. A kind that is not listed here was not thought of, and fails the replay.

use super::recordings::Speech;

/// Members of Chat Completions' relatives, and whose they are.
const CHAT: &[&str] = &[
    // OpenAI: moderation of prompt and answer, asked for in the request.
    "moderation",
    // Azure and Copilot: the content filter's verdicts.
    "prompt_filter_results",
    "choices.content_filter_results",
    "copilot_usage",
    // OpenRouter: who answered, and that one's own word for the finish.
    "provider",
    "choices.native_finish_reason",
    // Perplexity.
    "citations",
    "search_results",
    "related_questions",
    // Groq: its own ids and usage; the channels of gpt-oss; what its server-side tools did.
    "x_groq",
    "usage_breakdown",
    "delta.channel",
    "delta.executed_tools",
    "choices.message.executed_tools",
    // llama.cpp.
    "timings",
    // Cerebras.
    "time_info",
    // Venice.
    "venice_parameters",
    "cost",
    "delta.reasoning_encrypted",
    "choices.message.reasoning_encrypted",
    // Together: the seed drawn, and the prompt as a list that is empty.
    "choices.seed",
    "prompt",
    // Mistral, Copilot: noise against traffic analysis.
    "p",
    "choices.message.padding",
    // Gemini's endpoint: the signature a second time.
    "choices.message.thought_signature",
    // vLLM, SGLang and the like.
    "choices.stop_reason",
    "choices.matched_stop",
    // OpenAI's first vision model.
    "choices.finish_details",
    // SambaNova and others behind gateways.
    "request_id",
    "metadata",
    "sla_metrics",
    "latency_checkpoint",
    "obfuscation",
];

/// Blocks and events of Anthropic's: what its own tools were asked and said, and what editing the context did.
const MESSAGES: &[&str] = &[
    "content.server_tool_use",
    "content.web_search_tool_result",
    "content.web_fetch_tool_result",
    "content.code_execution_tool_result",
    "content.bash_code_execution_tool_result",
    "content.text_editor_code_execution_tool_result",
    "content.tool_search_tool_result",
    "content.mcp_tool_use",
    "content.mcp_tool_result",
    "content.advisor_tool_result",
    "content.compaction",
    // Who called a tool, where it was not the model but code that it wrote.
    "content.caller",
    "container",
    "context_management",
    "stop_details",
];

/// Parts and members of Gemini's: code that it ran, tools of Google's, and what it says of its sources.
const GEMINI: &[&str] = &[
    "content.executableCode",
    "content.codeExecutionResult",
    "content.toolCall",
    "content.toolResponse",
    "promptFeedback",
    "usageMetadata.trafficType",
    "groundingMetadata",
    "urlContextMetadata",
    "safetyRatings",
    "avgLogprobs",
    "finishMessage",
    "choices.groundingMetadata",
    "choices.urlContextMetadata",
    "choices.safetyRatings",
    "choices.avgLogprobs",
    "choices.finishMessage",
];

/// Items of OpenAI's own tools, and members that single hosts add.
const RESPONSES: &[&str] = &[
    // Items of tools that OpenAI runs itself, and what they were asked and said.
    "content.apply_patch_call",
    "content.code_interpreter_call",
    "content.compaction",
    "content.file_search_call",
    "content.local_shell_call",
    "content.mcp_approval_request",
    "content.mcp_call",
    "content.mcp_list_tools",
    "content.program",
    "content.program_output",
    "content.shell_call",
    "content.shell_call_output",
    "content.tool_search_call",
    "content.tool_search_output",
    "content.web_search_call",
    "content.x_search_call",
    // Members of items that only their own kind has.
    "output.background",
    "output.caller",
    "output.id",
    "output.namespace",
    "output.phase",
    "output.prompt",
    "output.quality",
    "output.revised_prompt",
    "output.size",
    "output.status",
    // How far those tools are.
    "response.apply_patch_call_operation_diff.delta",
    "response.apply_patch_call_operation_diff.done",
    "response.code_interpreter_call.completed",
    "response.code_interpreter_call.in_progress",
    "response.code_interpreter_call.interpreting",
    "response.code_interpreter_call_code.delta",
    "response.code_interpreter_call_code.done",
    "response.file_search_call.completed",
    "response.file_search_call.in_progress",
    "response.file_search_call.searching",
    "response.image_generation_call.completed",
    "response.image_generation_call.generating",
    "response.image_generation_call.in_progress",
    "response.image_generation_call.partial_image",
    "response.mcp_call.completed",
    "response.mcp_call.in_progress",
    "response.mcp_call_arguments.delta",
    "response.mcp_call_arguments.done",
    "response.mcp_list_tools.completed",
    "response.mcp_list_tools.in_progress",
    "response.shell_call_command.added",
    "response.shell_call_command.delta",
    "response.shell_call_command.done",
    "response.shell_call_output_content.delta",
    "response.shell_call_output_content.done",
    "response.web_search_call.completed",
    "response.web_search_call.in_progress",
    "response.web_search_call.searching",
    // Single hosts: filters of Azure, billing of Copilot, moderation that was asked for.
    "content_filters",
    "copilot_usage",
    "moderation",
];

/// Converse's guard and router, and what its own tools said.
const CONVERSE: &[&str] = &["content.server_tool_use", "content.toolResult", "performanceConfig", "trace"];

const COHERE: &[&str] = &[];

const OLLAMA: &[&str] = &[];

pub fn is_known(speech: Speech, kind: &str) -> bool {
    let list = match speech {
        Speech::Chat => CHAT,
        Speech::Messages => MESSAGES,
        Speech::Gemini => GEMINI,
        Speech::Responses => RESPONSES,
        Speech::Converse => CONVERSE,
        Speech::Cohere => COHERE,
        Speech::Ollama => OLLAMA,
        Speech::Completions => &[],
    };
    list.contains(&kind)
}
